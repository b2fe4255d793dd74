import { createHmac } from 'node:crypto'

export type Host = 'github' | 'gitlab' | 'bitbucket' | 'gitea'

/** What a host sends beside a body: its event, the number of the message and the proof, under the names its pages give. */
export function headersOf(
  host: Host,
  message: { readonly event: string; readonly body: string; readonly id: string },
  secret: string,
): Record<string, string> {
  const { event, body, id } = message
  const proof = createHmac('sha256', secret).update(body).digest('hex')
  const by = {
    github: { 'x-github-event': event, 'x-github-delivery': id, 'x-hub-signature-256': `sha256=${proof}` },
    gitlab: { 'x-gitlab-event': event, 'idempotency-key': id, 'x-gitlab-token': secret },
    bitbucket: { 'x-event-key': event, 'x-request-uuid': id, 'x-hub-signature': `sha256=${proof}` },
    gitea: { 'x-gitea-event': event, 'x-gitea-delivery': id, 'x-gitea-signature': proof },
  }[host]
  return { 'content-type': 'application/json', ...by }
}
