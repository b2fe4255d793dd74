import { FRONT_TOKEN_FILE } from './people.ts'

/** The settings of the trial, as a file a newcomer can read and change. */
export function trialSettings(options: {
  readonly ports: { readonly http: number; readonly ssh: number; readonly admin: number }
  readonly upstream: string
  readonly passphrase: string
  /** The provider people sign in with, where there is one. */
  readonly provider?: { readonly issuer: URL; readonly client: { readonly id: string; readonly secret: string } }
}): string {
  const { ports, upstream, passphrase, provider } = options
  return `# Written by npm start; changes are lost at the next. Every setting: config/drawbridge.example.yaml
name: trial
listen:
  http: 127.0.0.1:${ports.http}
  ssh: 127.0.0.1:${ports.ssh}
  admin: 127.0.0.1:${ports.admin}
redis: embedded
postgres: embedded
state: .
upstreams:
  demo: { url: ${JSON.stringify(`file://${encodeURI(upstream)}/`)} }
policy: policy.yaml
control: { url: "http://127.0.0.1:${ports.admin}", token_file: ${FRONT_TOKEN_FILE} }
ca: { passphrase: { file: ${JSON.stringify(passphrase)} } }
limits: { drain: 5s }
${provider === undefined ? '' : loginSection(provider)}`
}

const loginSection = ({ issuer, client }: NonNullable<Parameters<typeof trialSettings>[0]['provider']>) => `login:
  issuer: ${issuer.origin}
  client_id: ${client.id}
  client_secret: ${client.secret}
  roles: { approver: [leads], admin: [leads], auditor: [audit] }
`
