#!/usr/bin/env node
import { readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { renewed } from './client.ts'
import { type KeptSignin, keptForGit } from './kept.ts'
import { CommandError, data, hint, say } from './say.ts'

/**
 * git's credential helper (gitcredentials(7)): answers with the token, and only for the gate it was set up for.
 *
 *     git config --global credential.https://gate.example.helper 'drawbridge --for https://gate.example'
 *
 * The token is in DRAWBRIDGE_TOKEN, in the file DRAWBRIDGE_TOKEN_FILE, of the sign-in made by `git access login`, or in
 * ~/.config/drawbridge/token.
 */

const INPUT_BYTES_MAX = 64 << 10
const USAGE = 'usage: git-credential-drawbridge --for URL get|store|erase'

/** @returns the exit status */
export async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args)
  const gate = values.for !== undefined && URL.canParse(values.for) ? new URL(values.for) : undefined
  if (gate === undefined || positionals.length !== 1) {
    // Without it the token would be told to any host git asks about.
    say(USAGE)
    return 2
  }
  const asked = readAsked()
  const same = asked.get('protocol') === gate.protocol.slice(0, -1) && asked.get('host') === gate.host
  if (!same) return 0
  switch (positionals[0]) {
    case 'get':
      return await get(gate)
    case 'erase':
      // git says that the gate did not take it. The token is somebody's file or environment, and stays.
      say(`${gate.origin} did not take your token`)
      hint(
        signedInAt(gate) ? 'sign in again: git access login' : 'it may have expired or been revoked: ask for a new one',
      )
      return 0
    default:
      // store: there is nothing to keep that is not there already.
      return 0
  }
}

async function get(gate: URL): Promise<number> {
  if (gate.protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(gate.hostname)) {
    say(`${gate.origin} is another machine, and http would show it the token; use https`)
    return 0
  }
  const given = process.env.DRAWBRIDGE_TOKEN || process.env.DRAWBRIDGE_TOKEN_FILE
  const kept = given ? undefined : signedInAt(gate)
  if (kept !== undefined) return await getBySignin(kept)
  const token = readToken()
  if (token === undefined) return 0
  data(`username=drawbridge\npassword=${token}\n`)
  return 0
}

/** The token of a sign-in, renewed when it is about to end. git is told until when it is good. */
async function getBySignin(signin: KeptSignin): Promise<number> {
  try {
    const { token, tokenExpires } = await renewed(signin, process.env)
    data(
      `username=drawbridge\npassword=${token}\npassword_expiry_utc=${Math.floor(Date.parse(tokenExpires) / 1_000)}\n`,
    )
    return 0
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    say(error.message)
    hint(error.hint ?? 'git access login')
    // Without this git would ask at the terminal for what nobody can type.
    data('quit=1\n')
    return 0
  }
}

function signedInAt(gate: URL): KeptSignin | undefined {
  try {
    return keptForGit(process.env, gate.origin)
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    say(error.message)
    return undefined
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: { for: { type: 'string' } }, allowPositionals: true })
  } catch {
    return { values: { for: undefined }, positionals: [] }
  }
}

/** `key=value` lines up to an empty one. */
function readAsked(): ReadonlyMap<string, string> {
  const text = readFileSync(0, 'utf8').slice(0, INPUT_BYTES_MAX)
  const lines = text.split('\n').filter(line => line.includes('='))
  return new Map(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

function readToken(): string | undefined {
  const { DRAWBRIDGE_TOKEN, DRAWBRIDGE_TOKEN_FILE } = process.env
  if (DRAWBRIDGE_TOKEN) return whole(DRAWBRIDGE_TOKEN, 'DRAWBRIDGE_TOKEN')
  const file = DRAWBRIDGE_TOKEN_FILE || join(homedir(), '.config', 'drawbridge', 'token')
  try {
    if (statSync(file).mode & 0o077) {
      say(`${file} can be read by others and is not used; chmod 600 it`)
      return undefined
    }
    return whole(readFileSync(file, 'utf8'), file)
  } catch {
    say(`you are not signed in, and there is no token in DRAWBRIDGE_TOKEN or ${file}`)
    hint('git access login')
    return undefined
  }
}

/** A line break in it would be further lines of the answer. */
function whole(text: string, place: string): string | undefined {
  const token = text.trim()
  if (/^[\x21-\x7e]+$/.test(token)) return token
  say(`${place} holds no token: expected one word`)
  return undefined
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
