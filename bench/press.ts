import type { SlackServer } from '../test/admin/notify/slackserver.ts'

/**
 * What a person does in Slack to approve a request: presses the button below its message, and sends the form that comes.
 * @param url where Slack sends what people do: the channel at the gate
 * @returns milliseconds since the epoch at which the form was sent
 */
export async function approveInSlack(slack: SlackServer, url: string, user: string, request: string): Promise<number> {
  const message = [...slack.messages.values()].find(({ blocks }) => JSON.stringify(blocks).includes(request))
  const actions = message?.blocks.find(({ type }) => type === 'actions')
  const button = actions?.type === 'actions' ? actions.elements[0] : undefined
  if (button === undefined) throw new Error(`no message with a button for ${request}`)
  const common = { user: { id: user }, team: { id: 'T1' } }
  const press = { action_id: button.action_id, value: button.value }
  await deliver({
    ...common,
    type: 'block_actions',
    trigger_id: slack.trigger(),
    channel: { id: 'C1' },
    actions: [press],
  })
  const { callback_id, private_metadata } = slack.views.at(-1) ?? {}
  const sent = Date.now()
  const state = { values: { reason: { text: { value: 'go on' } } } }
  await deliver({ ...common, type: 'view_submission', view: { callback_id, private_metadata, state } })
  return sent

  async function deliver(payload: object): Promise<void> {
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
    const answer = await fetch(url, { method: 'POST', headers: slack.sign(body), body })
    if (!answer.ok) throw new Error(`the gate answered ${answer.status} to what Slack sent`)
  }
}
