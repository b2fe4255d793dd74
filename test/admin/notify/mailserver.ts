import type { AddressInfo } from 'node:net'
import PostalMime, { type Email } from 'postal-mime'
import { SMTPServer } from 'smtp-server'

/** A mail server that keeps what it takes. */
export interface MailServer {
  readonly url: URL
  readonly mails: { readonly to: string[]; readonly email: Email }[]
  /** What it says to a recipient; nothing: welcome. */
  refuse: (address: string) => { code: number; text: string } | undefined
  /** The mails to somebody, the oldest first. */
  to(address: string): Email[]
  stop(): Promise<void>
}

export async function startMail(): Promise<MailServer> {
  const smtp = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo: ({ address }, _session, callback) => {
      const no = server.refuse(address)
      callback(no && Object.assign(new Error(no.text), { responseCode: no.code }))
    },
    onData: (stream, session, callback) => {
      const chunks: Buffer[] = []
      stream.on('data', chunk => chunks.push(chunk))
      stream.on('end', () => {
        const to = session.envelope.rcptTo.map(({ address }) => address)
        void PostalMime.parse(Buffer.concat(chunks)).then(email => {
          server.mails.push({ to, email })
          callback()
        })
      })
    },
  })
  await new Promise<void>(resolve => smtp.listen(0, '127.0.0.1', () => resolve()))
  const { port } = smtp.server.address() as AddressInfo
  const server: MailServer = {
    url: new URL(`smtp://127.0.0.1:${port}`),
    mails: [],
    refuse: () => undefined,
    to: address => server.mails.filter(({ to }) => to.includes(address)).map(({ email }) => email),
    stop: () => new Promise(resolve => smtp.close(() => resolve())),
  }
  return server
}

/** The one-time link in a mail. */
export const linkIn = (email: Email | undefined): string => /https?:\S+\/links\/\S+/.exec(email?.text ?? '')?.[0] ?? ''
