import { createTransport, type SendMailOptions } from 'nodemailer'
import { escapeHtml } from '../../audit/escape.ts'
import type { EmailSettings } from '../../config/notify.ts'
import { type Channel, ChannelError, type Delivery, eachPerson } from './channel.ts'
import { digestLines } from './digest.ts'
import { type LinkFor, linkOf } from './link.ts'
import { details, headline, subject } from './words.ts'

const CONNECT_MILLISECONDS_MAX = 8_000
const SUBJECT_CHARACTERS_MAX = 200

/**
 * Notices by mail. Whoever is asked gets a link of their own; a mail that only tells has none. All mails about a request are one
 * thread.
 */
export function emailChannel(settings: EmailSettings, linkFor: LinkFor): Channel {
  const { name, smtp, username, password, from } = settings
  const secure = smtp.protocol === 'smtps:'
  const transport = createTransport({
    host: smtp.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(smtp.port) || (secure ? 465 : 587),
    secure,
    requireTLS: settings.requireTls,
    ...(username !== undefined && { auth: { user: username, pass: password ?? '' } }),
    connectionTimeout: CONNECT_MILLISECONDS_MAX,
    greetingTimeout: CONNECT_MILLISECONDS_MAX,
    socketTimeout: CONNECT_MILLISECONDS_MAX,
    // A mail is made of what people typed; none of it may name a file or an address to fetch.
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const domain = from.slice(from.lastIndexOf('@') + 1)

  return {
    name,
    recipients: async (_, { asked, told, reach }) => {
      const found = eachPerson({ asked, told, reach }, ({ email }) => email)
      const known = new Set(found.map(({ address }) => address))
      return [...found, ...settings.also.filter(one => !known.has(one)).map(address => ({ address }))]
    },
    send: async (delivery, signal) => {
      if (delivery.recipient === '') throw new ChannelError('an address is needed: --to ADDRESS', { lasting: true })
      const messageId = `<${delivery.id}@${domain}>`
      await post(mail(delivery, messageId), signal)
      return messageId
    },
    digest: async ({ id, recipient, contents }, signal) => {
      const { title, lines } = digestLines(contents)
      const items = lines.map(line => `<li>${escapeHtml(line)}</li>`).join('')
      const text = `${title}\n\n${lines.join('\n')}\n`
      const html = `<p><strong>${escapeHtml(title)}</strong></p><ul>${items}</ul>`
      const messageId = `<${id}@${domain}>`
      await post({ ...envelope(id, recipient), messageId, subject: clip(title), text, html }, signal)
    },
    close: async () => transport.close(),
  }

  async function post(message: SendMailOptions, signal: AbortSignal): Promise<void> {
    // nodemailer knows no signal: the connection has bounds of its own, and the wait for it ends here.
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new ChannelError(`${smtp.host} does not answer`)), { once: true })
    })
    await Promise.race([transport.sendMail(message).catch(refused), aborted])
  }

  function envelope(id: string, to: string): SendMailOptions {
    return {
      from,
      to,
      headers: { 'X-Drawbridge-Notice': id, 'Auto-Submitted': 'auto-generated' },
      list: { unsubscribe: { url: settings.unsubscribe, comment: 'no more of these' } },
    }
  }

  function mail(delivery: Delivery, messageId: string): SendMailOptions {
    const { id, content, recipient, person, first } = delivery
    const { request } = content.data
    const link = linkOf(linkFor, { name, via: 'email' }, delivery)
    const way = request && person !== undefined ? `drawbridge request approve ${request.id}` : undefined
    const head = headline(content)
    const rows = details(content)
    return {
      ...envelope(id, recipient),
      messageId,
      subject: clip(`${first === undefined ? '' : 'Re: '}${subject(content)}`),
      ...(first !== undefined && { inReplyTo: first, references: [first] }),
      text: textOf(head, rows, link, way),
      html: htmlOf(head, rows, link, way),
    }
  }
}

const clip = (text: string) => text.slice(0, SUBJECT_CHARACTERS_MAX)

type Rows = ReturnType<typeof details>

function textOf(head: string, rows: Rows, link: string | undefined, way: string | undefined): string {
  const width = Math.max(0, ...rows.map(([term]) => term.length))
  return [
    head,
    '',
    ...rows.map(([term, value]) => `${`${term}:`.padEnd(width + 2)}${value}`),
    ...(link === undefined ? [] : ['', `Look at it and decide: ${link}`, 'The link is yours alone and works once.']),
    ...(way === undefined ? [] : ['', `Or on the command line: ${way}`]),
    '',
  ].join('\n')
}

function htmlOf(head: string, rows: Rows, link: string | undefined, way: string | undefined): string {
  const table = rows.map(
    ([term, value]) => `<tr><td valign="top">${escapeHtml(term)}</td><td>${escapeHtml(value)}</td></tr>`,
  )
  const decide =
    link === undefined
      ? ''
      : `<p><a href="${escapeHtml(link)}">Look at it and decide</a>. The link is yours alone and works once.</p>`
  const line = way === undefined ? '' : `<p>Or on the command line: <code>${escapeHtml(way)}</code></p>`
  return `<p><strong>${escapeHtml(head)}</strong></p><table cellpadding="3">${table.join('')}</table>${decide}${line}`
}

/** A mailbox that is not there stays so; a server that is away, busy or does not know us may be right again. */
function refused(cause: Error): never {
  const status: unknown = Reflect.get(cause, 'responseCode')
  const command = String(Reflect.get(cause, 'command') ?? '')
  const lasting = typeof status === 'number' && status >= 550 && status <= 556 && /^(RCPT TO|DATA)/.test(command)
  const said =
    typeof status === 'number' ? `answers ${status} to ${command}` : String(Reflect.get(cause, 'code') ?? 'fails')
  throw new ChannelError(`the mail server ${said}`, { lasting, cause })
}
