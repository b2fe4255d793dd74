import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import { knownHostsLines, readAuthority, trustedUserCaKeys } from '../ca/authority.ts'
import { type AuthorityClient, authorityClient } from '../ca/client.ts'
import { createAuthority, freshKeys } from '../ca/custody.ts'
import { fingerprint, parsePublicKeyLine } from '../ca/key.ts'
import { encodeKrl } from '../ca/krl.ts'
import type { Refused } from '../ca/protocol.ts'
import { loadSettings } from '../config/load.ts'
import type { Settings } from '../config/settings.ts'
import { CommandError, EXIT, hint, json, say, table } from './say.ts'

interface Common {
  readonly config: string
  readonly socket?: string
  readonly json?: boolean
}

/** `drawbridge ca …`: for the account the authority runs as, on its machine. Its socket opens for nobody else. */
export function caCommand(): Command {
  const ca = new Command('ca').description('the SSH certificate authority, on its own machine')
  ca.addCommand(
    local('init', 'make the keys of a new authority').action(async (options: Common) => {
      const { directory, passphrase } = authorityIn(options)
      if (passphrase === undefined) {
        const want = 'write ca: { passphrase: { file: PATH } } into the settings; the keys are encrypted with it'
        throw new CommandError(EXIT.usage, 'the authority has no passphrase', want)
      }
      if ((await readAuthority(directory)) !== undefined) {
        throw new CommandError(
          EXIT.failed,
          `${directory} holds an authority already`,
          'turn its keys by: drawbridge ca rotate',
        )
      }
      const now = Date.now()
      await createAuthority(directory, await freshKeys(directory, { passphrase }, now), now)
      say(`a new authority is in ${directory}; back it up, and its passphrase elsewhere`)
      hint('start it: drawbridge serve --role ca')
    }),
  )
  ca.addCommand(
    asking('show', 'its trusted keys')
      .addOption(new Option('--user-keys', "as a sshd's TrustedUserCAKeys file").conflicts(['knownHosts', 'json']))
      .option(
        '--known-hosts <hosts>',
        'lines for known_hosts, for these host patterns: gate.example.org,[gate.example.org]:2222',
      )
      .option('--tls-root', 'the certificate by which listeners with tls: ca are known, PEM')
      .action(async (options: Common & { userKeys?: boolean; knownHosts?: string; tlsRoot?: boolean }) => {
        if (options.tlsRoot) {
          const root = await asked(options, client => client.tlsRoot())
          if (root !== undefined) return void process.stdout.write(root)
          throw new CommandError(
            EXIT.failed,
            'no TLS certificate was issued yet',
            'set tls: ca of a listener, and start it',
          )
        }
        const { user, host } = await asked(options, client => client.trusted())
        if (options.userKeys) return void process.stdout.write(trustedUserCaKeys(user))
        if (options.knownHosts !== undefined) {
          return void process.stdout.write(knownHostsLines(host, options.knownHosts.split(',')))
        }
        const keys = [...described('user', user), ...described('host', host)]
        if (options.json) return json(keys)
        table(
          ['RING', 'STATE', 'FINGERPRINT', 'KEY'],
          keys.map(({ ring, state, fingerprint, key }) => [ring, state, fingerprint, key]),
        )
      }),
  )
  ca.addCommand(
    changing('rotate', 'let the next key sign, and make a fresh one next; nobody is logged out')
      .addOption(ringOption())
      .addOption(
        new Option(
          '--agent <socket>',
          'next is a key in this ssh-agent, with --key; not a fresh one in a file',
        ).conflicts(['vault', 'kms']),
      )
      .option('--key <file>', 'its public key')
      .addOption(new Option('--vault <key@version>', 'next is this key of the transit engine').conflicts('kms'))
      .option('--kms <arn>', 'next is this key: arn:aws:kms:REGION:ACCOUNT:key/ID')
      .action(async (options: Common & Elsewhere & { by: string; ring: 'user' | 'host' }) => {
        const { by, ring } = options
        const next = elsewhere(options)
        await done(options, client => client.rotate({ by, ring, ...(next && { next }) }), `the ${ring} ring has turned`)
        const hosts = options.ring === 'user' ? 'hosts that trust the authority directly' : 'known_hosts files'
        hint(`before the next rotation give the new keys to ${hosts}: drawbridge ca show`)
      }),
  )
  ca.addCommand(
    changing('distrust', 'end the trust in a retired key, and in every certificate it has signed')
      .argument('<fingerprint>', 'SHA256:…, as drawbridge ca show prints it')
      .action(async (print: string, options: Common & { by: string }) => {
        await done(
          options,
          client => client.distrust({ by: options.by, fingerprint: print }),
          `${print} is trusted no more`,
        )
      }),
  )
  ca.addCommand(
    changing('revoke', 'refuse certificates from now on')
      .addOption(new Option('--serial <number>', 'one certificate').conflicts(['keyId', 'key']))
      .addOption(
        new Option('--key-id <id>', 'every certificate with this key id, still to come as well').conflicts(['key']),
      )
      .option('--key <file>', 'every certificate of this public key')
      .requiredOption('--reason <text>', 'for the record')
      .action(async (options: Common & Revocation) => {
        const { by, reason, serial, keyId, key } = options
        if (serial === undefined && keyId === undefined && key === undefined) {
          throw new CommandError(EXIT.usage, 'nothing to revoke', 'give --serial, --key-id or --key')
        }
        const what = serial ?? keyId ?? key
        const named = {
          ...(serial === undefined ? {} : { serial }),
          ...(keyId === undefined ? {} : { keyId }),
          ...(key === undefined ? {} : { publicKey: publicKeyIn(key) }),
        }
        await done(options, client => client.revoke({ by, reason, ...named }), `${what} is revoked`)
        hint(
          'the gate refuses it within a second; hosts that trust the authority directly when they fetch the KRL again',
        )
      }),
  )
  ca.addCommand(
    asking('krl', 'its key revocation list, for RevokedKeys of a sshd')
      .option('--out <file>', 'put it in the place of this file; stdout otherwise')
      .action(async (options: Common & { out?: string }) => {
        const bytes = encodeKrl(await asked(options, client => client.krl()))
        if (options.out === undefined) return void process.stdout.write(bytes)
        // A list that is cut short reads as a shorter list, so that nobody may see it half written.
        writeFileSync(`${options.out}.new`, bytes, { mode: 0o644, flush: true })
        renameSync(`${options.out}.new`, options.out)
      }),
  )
  return ca
}

interface Elsewhere {
  readonly agent?: string
  readonly key?: string
  readonly vault?: string
  readonly kms?: string
}

/** The next key where it is kept by somebody else; undefined for a fresh one in a file. */
function elsewhere({ agent, key, vault, kms }: Elsewhere): Parameters<AuthorityClient['rotate']>[0]['next'] {
  if ((agent === undefined) !== (key === undefined)) {
    throw new CommandError(EXIT.usage, 'an ssh-agent holds several keys', 'give --agent SOCKET and --key FILE.pub')
  }
  if (agent !== undefined && key !== undefined) {
    return { kind: 'agent', socket: resolve(agent), publicKey: publicKeyIn(key) }
  }
  if (vault !== undefined) {
    const [, name, version] = /^(.+)@([1-9]\d{0,8})$/.exec(vault) ?? []
    if (name === undefined) {
      throw new CommandError(EXIT.usage, `--vault: ${vault} names no version of a key`, 'such as --vault gate-user@1')
    }
    return { kind: 'vault', key: name, version: Number(version) }
  }
  if (kms !== undefined) {
    const [, region] = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):\d+:key\/[\w-]+$/.exec(kms) ?? []
    if (region === undefined) {
      throw new CommandError(EXIT.usage, `--kms: ${kms} is no key`, 'give its ARN: arn:aws:kms:REGION:ACCOUNT:key/ID')
    }
    return { kind: 'kms', keyId: kms, region }
  }
  return undefined
}

interface Revocation {
  readonly by: string
  readonly reason: string
  readonly serial?: string
  readonly keyId?: string
  readonly key?: string
}

function local(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .addOption(
      new Option('--config <file>', 'the settings of the gate').env('DRAWBRIDGE_CONFIG').default('drawbridge.yaml'),
    )
}

function asking(name: string, description: string): Command {
  return local(name, description)
    .option('--socket <path>', 'where it is asked, rather than where the settings say')
    .option('--json', 'as JSON')
}

function changing(name: string, description: string): Command {
  return asking(name, description).option('--by <name>', 'who does it, for the record', userInfo().username)
}

function ringOption(): Option {
  return new Option('--ring <ring>', 'whose certificates').choices(['user', 'host']).makeOptionMandatory()
}

function authorityIn({ config }: Common): Settings['ca'] {
  const { ca } = loadSettings(config, process.env)
  if (!ca.configured)
    throw new CommandError(EXIT.usage, `${config} has no section ca`, 'write ca: { passphrase: … } into it')
  return ca
}

async function asked<T>(options: Common, question: (client: AuthorityClient) => Promise<T>): Promise<T> {
  const client = authorityClient(options.socket ?? authorityIn(options).socket)
  try {
    return await question(client)
  } catch (cause) {
    throw new CommandError(
      EXIT.unreachable,
      cause instanceof Error ? cause.message : String(cause),
      'is it running (drawbridge serve --role ca), and are you the account it runs as?',
    )
  }
}

async function done(
  options: Common,
  change: (client: AuthorityClient) => Promise<{ readonly ok: true } | Refused>,
  sentence: string,
): Promise<void> {
  const answer = await asked(options, change)
  if (!answer.ok) throw new CommandError(EXIT.failed, answer.reason, undefined, answer.code)
  if (options.json) json(answer)
  say(sentence)
}

/** The authority names the key that signs first, then the next, then those that are retired. */
function described(ring: 'user' | 'host', lines: readonly string[]) {
  return lines.map((key, index) => ({
    ring,
    state: ['current', 'next'][index] ?? 'retired',
    fingerprint: fingerprint(parsePublicKeyLine(key).blob),
    key,
  }))
}

function publicKeyIn(file: string): string {
  try {
    const text = readFileSync(file, 'utf8').trim()
    parsePublicKeyLine(text)
    return text
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError(EXIT.usage, `--key: ${file} holds no public key: ${message}`)
  }
}
