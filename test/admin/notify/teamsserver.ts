import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { z } from 'zod'

/**
 * The workflow webhooks of Microsoft Teams as they are documented: addresses with a signature, the schema of Adaptive Cards as far as
 * Teams shows it (adaptivecards.io/explorer, version 1.4), and the size a message may have. What Teams would refuse is refused.
 */

export const MESSAGE_BYTES_MAX = 28 * 1_024

const textRun = z.strictObject({
  type: z.literal('TextRun'),
  text: z.string(),
  weight: z.enum(['Lighter', 'Default', 'Bolder']).optional(),
  size: z.enum(['Small', 'Default', 'Medium', 'Large', 'ExtraLarge']).optional(),
  isSubtle: z.boolean().optional(),
})
const richText = z.strictObject({
  type: z.literal('RichTextBlock'),
  inlines: z.array(textRun).min(1),
  spacing: z.enum(['None', 'Small', 'Default', 'Medium', 'Large', 'ExtraLarge', 'Padding']).optional(),
})
const openUrl = z.strictObject({ type: z.literal('Action.OpenUrl'), title: z.string().min(1), url: z.url() })
const execute = z.strictObject({
  type: z.literal('Action.Execute'),
  title: z.string().min(1),
  verb: z.string().min(1),
  style: z.enum(['default', 'positive', 'destructive']).optional(),
  data: z.record(z.string(), z.unknown()),
})
const inputText = z.strictObject({
  type: z.literal('Input.Text'),
  id: z.string().min(1),
  placeholder: z.string().optional(),
  maxLength: z.int().positive().optional(),
})
const card = z.strictObject({
  $schema: z.literal('http://adaptivecards.io/schemas/adaptive-card.json'),
  type: z.literal('AdaptiveCard'),
  version: z.enum(['1.0', '1.1', '1.2', '1.3', '1.4', '1.5']),
  msteams: z.strictObject({ width: z.literal('Full') }).optional(),
  body: z.array(z.discriminatedUnion('type', [richText, inputText])).min(1),
  actions: z
    .array(z.discriminatedUnion('type', [openUrl, execute]))
    .max(6)
    .optional(),
})
export type Card = z.infer<typeof card>
export const attachments = z
  .array(
    z.strictObject({
      contentType: z.literal('application/vnd.microsoft.card.adaptive'),
      contentUrl: z.null(),
      content: card,
    }),
  )
  .length(1)
const message = z.object({
  type: z.literal('message'),
  id: z.string(),
  recipient: z.email().optional(),
  attachments,
})

/** What somebody reads on a card. */
export const textOf = ({ body }: Card): string =>
  body.map(block => (block.type === 'RichTextBlock' ? block.inlines.map(run => run.text).join('') : '')).join('\n')

export interface TeamsServer {
  /** Of the workflow for a channel, and of the one for a chat. */
  readonly url: URL
  readonly chat: URL
  /** What was posted, and where: the channel, or somebody's chat. */
  readonly posted: { readonly to: string; readonly text: string; readonly link: string | undefined }[]
  /** Answers 429 until it is told otherwise. */
  busy: boolean
  stop(): Promise<void>
}

export async function startTeams(): Promise<TeamsServer> {
  const http = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const { pathname, searchParams } = new URL(request.url ?? '', server.url)
      if (server.busy) return response.writeHead(429, { 'retry-after': '30' }).end()
      if (searchParams.get('sig') !== 'secret-of-the-workflow') return response.writeHead(401).end()
      const raw = Buffer.concat(chunks)
      if (raw.length > MESSAGE_BYTES_MAX) return response.writeHead(413).end()
      const read = message.safeParse(JSON.parse(raw.toString()))
      if (!read.success || (pathname === '/chat') !== (read.data.recipient !== undefined)) {
        return response.writeHead(400).end()
      }
      const { recipient, attachments } = read.data
      const content = attachments[0]?.content
      // A workflow's card carries nothing back, so it has no buttons that would.
      const [action] = content?.actions ?? []
      if (content === undefined || action?.type === 'Action.Execute') return response.writeHead(400).end()
      server.posted.push({ to: recipient ?? 'the channel', text: textOf(content), link: action?.url })
      return response.writeHead(202).end()
    })
  })
  await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
  const base = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const server: TeamsServer = {
    url: new URL(`${base}/channel?sig=secret-of-the-workflow`),
    chat: new URL(`${base}/chat?sig=secret-of-the-workflow`),
    posted: [],
    busy: false,
    stop: () =>
      new Promise(resolve => {
        http.closeAllConnections()
        http.close(() => resolve())
      }),
  }
  return server
}
