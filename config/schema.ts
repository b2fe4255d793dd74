import { writeFileSync } from 'node:fs'
import { z } from 'zod'
import { postgres, REDIS_FORM, redisUrl, sentinels } from './schema/engines.ts'
import { hooks } from './schema/hooks.ts'
import { toJsonSchema } from './schema/json.ts'
import { ledger } from './schema/ledger.ts'
import { listen } from './schema/listen.ts'
import { login, workload } from './schema/login.ts'
import { notify } from './schema/notify.ts'
import { onCall } from './schema/oncall.ts'
import { policy } from './schema/policy.ts'
import { ca, control, limits, reuse, ssh } from './schema/running.ts'
import { telemetry } from './schema/telemetry.ts'
import { upstream } from './schema/upstreams.ts'
import { cidr, list, matching, publicUrl, section, text, whole } from './schema/value.ts'
import { WORKERS_MAX } from './workers.ts'

/**
 * The shape of `drawbridge.yaml`: parsing gives values in milliseconds and bytes with every default filled in. Every leaf
 * says in its message what is accepted there; load.ts puts the place and what was found in front.
 * `node config/schema.ts` writes the JSON Schema that editors use.
 */
export const SETTINGS = section({
  name: matching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a name of letters, digits, dot, dash and underscore')
    .optional()
    .describe(
      "This gate's name in records, unique among the gates that share a ledger; the machine's name unless given.",
    ),
  public_http: publicUrl('https://', 'http://').optional().describe('The URL people reach git over HTTP by.'),
  public_ssh: publicUrl('ssh://').optional().describe('The URL people reach git over SSH by.'),
  public_admin: publicUrl('https://', 'http://')
    .optional()
    .describe('The URL people reach the admin API and console by.'),
  listen: listen.prefault({}),
  redis: z.union([sentinels, redisUrl], { error: `expected ${REDIS_FORM}` }).describe('Where live grants are.'),
  postgres: postgres.describe('Where the ledger, requests and grants are.'),
  state: text('the path of a folder')
    .default('var')
    .describe('Folder for the spool, keys kept in files and embedded engines; relative to this file.'),
  upstreams: z
    .record(
      matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'a name of lower-case letters, digits, dot, dash and underscore'),
      upstream,
      {
        error: 'expected a mapping of names to upstreams',
      },
    )
    .describe('The Git hosts behind this gate; the name is the first part of every repository on it.'),
  policy: policy
    .optional()
    .describe(
      'Path of the policy file or folder, relative to this file; or the Git repository it is read from, through this gate.',
    ),
  control: control.optional(),
  login: login.optional(),
  workloads: z
    .record(matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'a name'), workload, {
      error: 'expected a mapping of names to workloads',
    })
    .optional()
    .describe('CI jobs that may exchange their own token for one of the gate.'),
  ssh: ssh.prefault({}),
  ca: ca.optional().describe('The SSH certificate authority of this gate; without this section there is none.'),
  workers: whole(1, WORKERS_MAX)
    .prefault(1)
    .describe(
      'How many processes the proxy is on this machine; from 2 on it can be restarted without a gap (SIGUSR2).',
    ),
  proxy_protocol: list(cidr, 'a list of networks')
    .default([])
    .describe('Load balancers that speak PROXY protocol to us; from anybody else it is refused.'),
  limits: limits.prefault({}),
  ledger: ledger.prefault({}),
  telemetry: telemetry.optional(),
  notify: notify.optional(),
  hooks: hooks
    .optional()
    .describe(
      'Who may tell the gate from outside that access is to end, or what began: type revoke, github, gitlab, bitbucket or gitea.',
    ),
  on_call: onCall
    .optional()
    .describe(
      'Who is on call by schedules kept elsewhere, by the name the policy has for them: type pagerduty or opsgenie.',
    ),
  reuse: reuse.prefault({}),
}).superRefine(({ ca: authority, listen, policy: kept, public_http, upstreams, workers }, context) => {
  if (typeof kept === 'object' && kept.url === undefined && public_http === undefined && listen.http === undefined) {
    const message = 'expected the URL at which this gate speaks git over HTTP; public_http says it as well'
    context.addIssue({ code: 'custom', path: ['policy', 'url'], message })
  }
  for (const [name, { connections }] of Object.entries(upstreams)) {
    if (connections >= workers) continue
    const message = `expected ${workers} or more: each of the ${workers} workers needs one`
    context.addIssue({ code: 'custom', path: ['upstreams', name, 'connections'], message })
  }
  if (authority !== undefined) return
  for (const name of ['http', 'admin'] as const) {
    const listener = listen[name]
    if (listener === undefined || !('tls' in listener) || listener.tls !== 'ca') continue
    const message = "expected { certificate, key }, or a section ca as well: the gate's own authority is to make it"
    context.addIssue({ code: 'custom', path: ['listen', name, 'tls'], message })
  }
  for (const [name, { credential: chosen }] of Object.entries(upstreams)) {
    if (chosen.type !== 'ssh-certificate') continue
    const message =
      "expected ssh-key, or a section ca as well: ssh-certificate is signed by the gate's own authority, and this file has none"
    context.addIssue({ code: 'custom', path: ['upstreams', name, 'credential', 'type'], message })
  }
})

export type Written = z.output<typeof SETTINGS>

/** The JSON Schema of `drawbridge.yaml`. */
export const jsonSchema = (): unknown => toJsonSchema(SETTINGS)

if (import.meta.main) {
  const file = new URL('drawbridge.schema.json', import.meta.url)
  writeFileSync(file, `${JSON.stringify(jsonSchema(), null, 2)}\n`)
}
