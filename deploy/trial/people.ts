import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { makeKey, writeSshConfig } from './ssh.ts'

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
const FRONT = 'service:trial'
/** Below the trial's folder. */
export const FRONT_TOKEN_FILE = 'front.token'

/**
 * The three people of the trial, each with a new token and SSH key, made as an operator makes the first ones: at the local
 * socket. And the proxy's own token, by which it passes on what they ask over ssh.
 */
export async function trialPeople(local: string, folder: string, ssh: string): Promise<Person[]> {
  const socketPath = local.replace(/^unix:/, '')
  const front = await post(socketPath, '/api/v1/tokens', { principal: FRONT, roles: ['front'], for: TOKENS_LAST })
  if (typeof front.token !== 'string') throw new Error(`no token was made for ${FRONT}: ${JSON.stringify(front)}`)
  writeFileSync(join(folder, FRONT_TOKEN_FILE), `${front.token}\n`, { mode: 0o600 })
  const people: Person[] = []
  for (const { principal, roles } of PEOPLE) {
    const made = await post(socketPath, '/api/v1/tokens', { principal, roles, for: TOKENS_LAST })
    if (typeof made.token !== 'string') throw new Error(`no token was made for ${principal}: ${JSON.stringify(made)}`)
    const key = makeKey(principal)
    await post(socketPath, '/api/v1/keys', { principal, public_key: key.publicKey, for: TOKENS_LAST })
    writeSshConfig(folder, principal, key.privateKey, ssh)
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
