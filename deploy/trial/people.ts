import { request } from 'node:http'

/** Somebody to be while trying things out. */
export interface Person {
  readonly principal: string
  readonly roles: readonly string[]
  readonly token: string
}

const PEOPLE = [
  { principal: 'alice', roles: ['developer'] },
  { principal: 'bob', roles: ['approver', 'admin'] },
  { principal: 'carol', roles: ['auditor'] },
] as const

const TOKENS_LAST = '30 days'

/** The three people of the trial, each with a new token, made as an operator makes the first ones: at the local socket. */
export async function trialPeople(local: string): Promise<Person[]> {
  const socketPath = local.replace(/^unix:/, '')
  const people: Person[] = []
  for (const { principal, roles } of PEOPLE) {
    const made = await post(socketPath, '/api/v1/tokens', { principal, roles, for: TOKENS_LAST })
    if (typeof made.token !== 'string') throw new Error(`no token was made for ${principal}: ${JSON.stringify(made)}`)
    people.push({ principal, roles, token: made.token })
  }
  return people
}

function post(socketPath: string, path: string, body: unknown): Promise<{ readonly token?: unknown }> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' }
    const asked = request({ socketPath, path, method: 'POST', headers }, async response => {
      let text = ''
      try {
        for await (const chunk of response) text += chunk
        resolve(JSON.parse(text))
      } catch (error) {
        reject(error)
      }
    })
    asked.once('error', reject)
    asked.end(JSON.stringify(body))
  })
}
