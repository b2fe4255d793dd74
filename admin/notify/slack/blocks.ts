import type { KnownBlock, PlainTextElement, View } from '@slack/web-api'
import type { Payload } from '../payload.ts'
import { details, headline } from '../words.ts'

/**
 * What Slack shows. Everything people typed is `plain_text`: as mrkdwn it could be a link with another name, or call everybody in
 * the channel. Lengths are Slack's limits: https://docs.slack.dev/reference/block-kit/blocks
 */

const HEADER_CHARACTERS_MAX = 150
const FIELD_CHARACTERS_MAX = 2_000
const FIELDS_MAX = 10
const ROWS_MAX = 100
const FALLBACK_CHARACTERS_MAX = 1_000

export const APPROVE = 'drawbridge_approve'
export const DENY = 'drawbridge_deny'
export const DECIDE = 'drawbridge_decide'

/** The message about a request: what is asked while it is open, what came of it afterwards. */
export function messageBlocks(content: Payload): KnownBlock[] {
  const { request } = content.data
  const rows = details(content).slice(0, ROWS_MAX)
  const fields = rows.map(([name, value]) => plain(`${name}:\n${value}`, FIELD_CHARACTERS_MAX))
  const sections: KnownBlock[] = []
  for (let at = 0; at < fields.length; at += FIELDS_MAX) {
    sections.push({ type: 'section', fields: fields.slice(at, at + FIELDS_MAX) })
  }
  const blocks: KnownBlock[] = [
    { type: 'header', text: plain(headline(content), HEADER_CHARACTERS_MAX) },
    { type: 'section', text: plain(headline(content), FIELD_CHARACTERS_MAX) },
    ...sections,
  ]
  if (request?.state !== 'requested') return blocks
  const value = JSON.stringify({ request: request.id, digest: request.digest })
  blocks.push({
    type: 'actions',
    elements: [
      { type: 'button', style: 'primary', text: plain('Approve'), action_id: APPROVE, value },
      { type: 'button', style: 'danger', text: plain('Deny'), action_id: DENY, value },
    ],
  })
  return blocks
}

/** What somebody said elsewhere, below the message. */
export const commentBlocks = (content: Payload): KnownBlock[] => [
  { type: 'section', text: plain(headline(content), FIELD_CHARACTERS_MAX) },
]

/** What is said where blocks are not shown, such as in a notification. */
export const fallback = (content: Payload): string => escapeMrkdwn(headline(content).slice(0, FALLBACK_CHARACTERS_MAX))

/** Text for where Slack reads mrkdwn: without these three characters there is no link and no mention. */
export function escapeMrkdwn(text: string): string {
  const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }
  return text.replace(/[&<>]/g, one => escapes[one] ?? one)
}

/** Asks once more, and for a reason. */
export function decisionModal(says: 'approve' | 'deny', about: string, metadata: string): View {
  const title = says === 'approve' ? 'Approve' : 'Deny'
  return {
    type: 'modal',
    callback_id: DECIDE,
    private_metadata: metadata,
    title: plain(title),
    submit: plain(title),
    close: plain('Cancel'),
    blocks: [
      { type: 'section', text: plain(about, FIELD_CHARACTERS_MAX) },
      {
        type: 'input',
        block_id: 'reason',
        optional: true,
        label: plain('A word on it'),
        element: { type: 'plain_text_input', action_id: 'text', multiline: true, max_length: 500 },
      },
    ],
  }
}

export function lastModal(sentence: string): View {
  return {
    type: 'modal',
    title: plain('Drawbridge'),
    close: plain('Close'),
    blocks: [{ type: 'section', text: plain(sentence, FIELD_CHARACTERS_MAX) }],
  }
}

function plain(text: string, most = 75): PlainTextElement {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text
  return { type: 'plain_text', text: cut, emoji: false }
}
