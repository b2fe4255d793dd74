import type { Delivery } from '../channel.ts'
import type { Payload } from '../payload.ts'
import { details, headline } from '../words.ts'

/**
 * The Adaptive Card of a notice. Everything people typed stands in text runs, since Teams reads every other text as Markdown: a
 * reason could be a link with another name, or mention everybody.
 */

/** Teams refuses larger messages: https://learn.microsoft.com/microsoftteams/limits-specifications-teams */
const MESSAGE_BYTES_MAX = 28 << 10
const HEADLINE_CHARACTERS_MAX = 500
const VALUE_CHARACTERS_MAX = 2_000
const WORD_CHARACTERS_MAX = 500

export const APPROVE = 'drawbridge_approve'
export const DENY = 'drawbridge_deny'

/** What can be done below a card: nothing, follow a link, or decide. */
export type Below =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'link'; readonly url: string }
  | { readonly kind: 'decide'; readonly request: string; readonly digest: string }

export interface Attachment {
  readonly contentType: 'application/vnd.microsoft.card.adaptive'
  readonly contentUrl: null
  readonly content: object
}

/**
 * The message that `wrap` makes of the card, no larger than Teams takes. Of a request that is too large the last lines are left out,
 * and it says so.
 */
export function fittingMessage(
  { content }: Pick<Delivery, 'content'>,
  below: Below,
  wrap: (card: Attachment) => object,
): string {
  const { request } = content.data
  const rows = details(content).map(([name, value]) => line(name, value))
  if (below.kind === 'nothing' && request?.state === 'requested') {
    rows.push(line('To decide', `drawbridge request approve ${request.id}`))
  }
  const cut = line('And more', `drawbridge request show ${request?.id ?? ''}`)
  return fitting(headline(content), rows, cut, body => wrap(attachment(body, below)))
}

/** The same of notices that are told together. */
export function fittingDigest(
  { title, lines }: { readonly title: string; readonly lines: readonly string[] },
  wrap: (card: Attachment) => object,
): string {
  const rows = lines.map(text => line('', text))
  return fitting(title, rows, line('And more', 'drawbridge audit list'), body => {
    return wrap(attachment(body, { kind: 'nothing' }))
  })
}

function fitting(head: string, rows: readonly object[], cut: object, wrap: (body: object[]) => object): string {
  for (let shown = rows.length; ; shown--) {
    const body = [title(head), ...rows.slice(0, shown), ...(shown < rows.length ? [cut] : [])]
    const message = JSON.stringify(wrap(body))
    if (Buffer.byteLength(message) <= MESSAGE_BYTES_MAX || shown === 0) return message
  }
}

/** One line and nothing else: what is said below a card that is there already. */
export const remark = (content: Payload): Attachment => attachment([title(headline(content))], { kind: 'nothing' })

function attachment(body: readonly object[], below: Below): Attachment {
  const more =
    below.kind === 'link'
      ? { body, actions: [{ type: 'Action.OpenUrl', title: 'Look at it and decide', url: below.url }] }
      : below.kind === 'decide'
        ? { body: [...body, word], actions: decisions(below) }
        : { body }
  return {
    contentType: 'application/vnd.microsoft.card.adaptive',
    contentUrl: null,
    content: {
      $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
      type: 'AdaptiveCard',
      version: '1.4',
      msteams: { width: 'Full' },
      ...more,
    },
  }
}

const word = { type: 'Input.Text', id: 'reason', placeholder: 'A word on it', maxLength: WORD_CHARACTERS_MAX }

/** https://learn.microsoft.com/adaptive-cards/authoring-cards/universal-action-model */
function decisions({ request, digest }: { readonly request: string; readonly digest: string }): object[] {
  const data = { request, digest }
  return [
    { type: 'Action.Execute', title: 'Approve', style: 'positive', verb: APPROVE, data },
    { type: 'Action.Execute', title: 'Deny', style: 'destructive', verb: DENY, data },
  ]
}

const run = (text: string, more = {}) => ({ type: 'TextRun', text, ...more })

const title = (text: string) => ({
  type: 'RichTextBlock',
  inlines: [run(clip(text, HEADLINE_CHARACTERS_MAX), { weight: 'Bolder', size: 'Medium' })],
})

const line = (name: string, value: string) => ({
  type: 'RichTextBlock',
  spacing: 'Small',
  inlines: [...(name === '' ? [] : [run(`${name}: `, { isSubtle: true })]), run(clip(value, VALUE_CHARACTERS_MAX))],
})

const clip = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text)
