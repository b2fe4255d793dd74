import { Command } from 'commander'
import { query, readText } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, wholeNumber } from './command.ts'
import { data, json, say, table, when } from './say.ts'

interface Key {
  readonly fingerprint: string
  readonly principal: string
  readonly algorithm: string
  readonly title: string
  readonly expires_at: string
  readonly revoked?: { readonly at: string; readonly by: string }
  readonly enacted?: boolean
}

/** `drawbridge key add|list|revoke` */
export function keyCommand(): Command {
  return new Command('key')
    .description('SSH public keys by which people are known')
    .addCommand(
      asking('add', "register a public key, yours or as an administrator anybody's")
        .argument('<file>', 'the .pub file; - is standard input')
        .option('--principal <principal>', 'whose it is; you, if left out')
        .option('--title <title>', "what to call it; the key's comment, if left out")
        .option('--for <duration>', 'how long it is good', '90 days')
        .action(async (file: string, options: Common & { principal?: string; title?: string; for: string }) => {
          const { principal, title } = options
          const body = { public_key: readText(file, 'file').trim(), principal, title, for: options.for }
          const key = await gate(options).call<Key>('POST', '/keys', body)
          if (options.json) json(key)
          else data(key.fingerprint)
          say(`the key stands for ${key.principal} until ${when(key.expires_at)}`)
          sayUnlessEnacted(key)
        }),
    )
    .addCommand(
      asking('list', 'registered keys')
        .option('--principal <principal>', 'only of this principal')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { principal?: string; limit: number }) => {
          const { principal, limit } = options
          const { keys } = await gate(options).call<{ keys: Key[] }>('GET', `/keys${query({ principal, limit })}`)
          if (options.json) return json(keys)
          table(
            ['FINGERPRINT', 'PRINCIPAL', 'TYPE', 'TITLE', 'EXPIRES', 'REVOKED'],
            keys.map(key => [
              key.fingerprint,
              key.principal,
              key.algorithm,
              key.title,
              when(key.expires_at),
              key.revoked ? `${when(key.revoked.at)} by ${key.revoked.by}` : '',
            ]),
          )
        }),
    )
    .addCommand(
      asking('revoke', 'refuse a key for good, and cut what runs by it')
        .argument('<fingerprint>', 'SHA256:…')
        .action(async (fingerprint: string, options: Common) => {
          const key = await gate(options).call<Key>('DELETE', `/keys/${encodeURIComponent(fingerprint)}`)
          if (options.json) json(key)
          say(`the key of ${key.principal} is revoked; it cannot be registered again`)
          sayUnlessEnacted(key)
        }),
    )
}
