import type { SlackServer } from '../test/admin/notify/slackserver.ts'

/**
 * What a person does in Slack to approve a request: presses the button below its message, and sends the form that comes.
 * @param url where Slack sends what people do: the channel at the gate
 * @returns milliseconds since the epoch at which the form was sent
 */
export async function approveInSlack(slack: SlackServer, url: string, user: string, request: string): Promise<number> {
  await deliver(slack.press(user, 'Approve', request))
  const sent = Date.now()
  await deliver(slack.submit(user))
  return sent

  async function deliver(payload: object): Promise<void> {
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
    const answer = await fetch(url, { method: 'POST', headers: slack.sign(body), body })
    if (!answer.ok) throw new Error(`the gate answered ${answer.status} to what Slack sent`)
  }
}
