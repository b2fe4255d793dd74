import { z } from 'zod'
import { checkRepositoryPattern } from '../../grant/pattern.ts'
import { EVENTS } from '../notify.ts'
import { CLOCK_FORM, DAYS_FORM, isZone, readClock, readDays, weekly } from '../policy/hours.ts'
import { duration, HOUR, isHere, list, MINUTE, matching, secret, section, text, WEBHOOK_SECRET } from './value.ts'

const hours = section({
  days: text(DAYS_FORM).refine(written => readDays(written) !== undefined, { error: `expected ${DAYS_FORM}` }),
  from: text(CLOCK_FORM).refine(written => readClock(written) !== undefined, { error: `expected ${CLOCK_FORM}` }),
  to: text(CLOCK_FORM).refine(written => readClock(written) !== undefined, { error: `expected ${CLOCK_FORM}` }),
  zone: text('an IANA time zone')
    .refine(isZone, { error: 'expected an IANA time zone such as Europe/Berlin' })
    .prefault('UTC'),
}).transform(({ days, from, to, zone }) =>
  weekly(zone, [{ days: readDays(days) ?? [], from: readClock(from) ?? 0, to: readClock(to) ?? 0 }]),
)

const repositoryName = text('a repository as <upstream>/<path>, with * and **').refine(
  written => checkRepositoryPattern(written) === undefined,
  { error: 'expected a repository as <upstream>/<path>, where * is part of one segment and ** several' },
)

const events = list(z.literal(EVENTS, { error: `expected one of ${EVENTS.join(', ')}` }), 'a list of events')

const digest = section({
  every: z.enum(['hour', 'day'], { error: 'expected hour or day' }),
  at: text(CLOCK_FORM)
    .refine(written => (readClock(written) ?? 1_440) < 1_440, { error: `expected ${CLOCK_FORM}, before "24:00"` })
    .prefault('09:00')
    .describe('When, of a daily one.'),
  zone: text('an IANA time zone')
    .refine(isZone, { error: 'expected an IANA time zone such as Europe/Berlin' })
    .prefault('UTC'),
  events: events.optional().describe('Which are told together; those that need nobody at once when left out.'),
}).transform(({ every, at, zone, events }) => {
  if (every === 'hour') return { every, events }
  const from = readClock(at) ?? 0
  return { every, events, at: weekly(zone, [{ days: [0, 1, 2, 3, 4, 5, 6], from, to: from + 1 }]) }
})

const told = {
  events: events.optional().describe('Only these are told; all when left out.'),
  repositories: list(repositoryName, 'a list of repositories')
    .optional()
    .describe('Only about these; all when left out.'),
  hours: hours.optional().describe('Outside of them notices wait, except break-glass, locks and bypasses.'),
}

/** Where our notices go is the operator's word alone; only to this machine itself do they go unencrypted. */
export const outside = (accepts: string, protocols: readonly string[]) =>
  z.string({ error: `expected ${accepts}` }).transform((written, context) => {
    const url = URL.canParse(written) ? new URL(written) : undefined
    const here = url !== undefined && isHere(url)
    const sealed = url !== undefined && protocols.includes(url.protocol)
    if (url?.hostname && (sealed || (here && url.protocol === 'http:')) && !url.username && !url.password) return url
    context.issues.push({ code: 'custom', message: `expected ${accepts}`, input: 'a URL that is not shown' })
    return z.NEVER
  })

const SMTP_FORM = 'a URL such as smtps://mail.acme.example:465 or smtp://mail.acme.example:587, without a user name'

const HTTPS_FORM = 'an https:// URL without a user name (http:// on this machine only)'

const mailAddress = matching(/^[^\s@<>"(),:;[\]\\]{1,64}@[A-Za-z0-9.-]{1,253}$/, 'an address such as ops@acme.example')

const guid = (accepts: string) => matching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, accepts)

/** Of the public cloud; others have addresses of their own. */
const microsoft = (at: string) => outside(HTTPS_FORM, ['https:']).prefault(at)

const teamsBot = section({
  app_id: guid("the app's id, a UUID"),
  tenant: guid("the tenant's id, a UUID"),
  secret: secret("the app's client secret"),
  channel: matching(/^19:[\w.@-]{5,200}$/, "a channel's id such as 19:abc…@thread.tacv2").describe(
    'Where requests are shown; it stands in the link to the channel.',
  ),
  service: microsoft('https://smba.trafficmanager.net/teams/').describe('Where the Bot Connector is.'),
  metadata: microsoft('https://login.botframework.com/v1/.well-known/openidconfiguration').describe(
    'Where its keys are found.',
  ),
  login: microsoft('https://login.microsoftonline.com/').describe("Where the bot's own token comes from."),
}).transform(({ app_id: appId, ...said }) => ({ appId, ...said }))

const channels = {
  webhook: section({
    type: z.literal('webhook'),
    url: outside(HTTPS_FORM, ['https:']),
    secret: matching(WEBHOOK_SECRET, 'whsec_ and at least 24 bytes in base64').describe(
      'What notices are signed with. Write { file: PATH } or ${NAME} rather than the secret itself.',
    ),
    ...told,
  }),
  email: section({
    type: z.literal('email'),
    smtp: outside(SMTP_FORM, ['smtp:', 'smtps:']),
    username: text('a user name').optional(),
    password: secret('a password').optional(),
    from: mailAddress.describe('The sender.'),
    unsubscribe: matching(/^(mailto:|https:\/\/)[\x21-\x7e]{3,500}$/, 'a mailto: or https:// address')
      .optional()
      .describe('What List-Unsubscribe says; the sender unless given.'),
    digest: digest.optional().describe('What needs nobody at once is told together.'),
    also: list(mailAddress, 'a list of addresses').default([]).describe('These hear everything this channel tells.'),
    ...told,
  }).transform(({ unsubscribe, ...said }) => ({
    ...said,
    // A password in the clear is everybody's on the way.
    requireTls: said.smtp.protocol === 'smtp:' && !isHere(said.smtp),
    unsubscribe: unsubscribe ?? `mailto:${said.from}?subject=unsubscribe`,
  })),
  slack: section({
    type: z.literal('slack'),
    token: matching(/^xoxb-[\x21-\x7e]{8,300}$/, "the bot's token, xoxb-…").describe(
      'Write { file: PATH } or ${NAME} rather than the secret itself.',
    ),
    channel: matching(/^[CG][A-Z0-9]{2,30}$/, "a channel's id such as C012ABC").describe('Where requests are shown.'),
    signing_secret: matching(/^[0-9a-f]{16,128}$/, "the app's signing secret")
      .optional()
      .describe('Of what Slack sends to /channels/NAME; without it nothing is taken from there.'),
    app_token: matching(/^xapp-[\x21-\x7e]{8,300}$/, "the app's own token, xapp-…")
      .optional()
      .describe('For Socket Mode: what people do in Slack comes by a connection that the gate opens.'),
    api: outside(HTTPS_FORM, ['https:']).optional().describe("Where the Web API is; Slack's own unless given."),
    ...told,
  }).transform(({ signing_secret: signingSecret, app_token: appToken, ...said }) => ({
    ...said,
    signingSecret,
    appToken,
  })),
  teams: section({
    type: z.literal('teams'),
    url: outside(HTTPS_FORM, ['https:'])
      .optional()
      .describe('A workflow that posts to a channel. Write { file: PATH }: its address is its secret.'),
    chat: outside(HTTPS_FORM, ['https:'])
      .optional()
      .describe('A workflow that posts to the chat of "recipient"; approvers get their links by it.'),
    digest: digest.optional().describe('What needs nobody at once is told together, but on the card of a bot.'),
    bot: teamsBot.optional().describe('A bot that posts to a channel, with buttons to decide; instead of url.'),
    ...told,
  })
    .refine(({ url, chat, bot }) => url !== undefined || chat !== undefined || bot !== undefined, {
      error: 'expected url or bot, chat, or both',
    })
    .refine(({ url, bot }) => url === undefined || bot === undefined, { error: 'expected url or bot, not both' }),
}

const channel = z.discriminatedUnion('type', [channels.webhook, channels.email, channels.slack, channels.teams], {
  error: `expected a mapping whose type is ${Object.keys(channels).join(', ')}`,
})

export const notify = section({
  ending: duration(MINUTE, 24 * HOUR)
    .prefault('10m')
    .describe('How long before its end a window is announced.'),
  give_up: duration(MINUTE, 30 * 24 * HOUR)
    .prefault('24h')
    .describe('How long a notice is tried; then it is listed as dead, and can be sent again.'),
  people: z
    .record(
      text('a principal'),
      section({
        email: mailAddress.optional(),
        slack: matching(/^[UW][A-Z0-9]{2,20}$/, "a member's id such as U012ABC").optional(),
        teams: mailAddress.optional(),
        teams_id: guid('an object id, a UUID').optional(),
        hours: hours.optional().describe('Outside of them notices to this person wait, except break-glass and locks.'),
      }).transform(({ teams_id: teamsId, ...said }) => ({ ...said, teamsId })),
    )
    .default({})
    .describe('How people are reached where the names they sign in with do not say.'),
  channels: z
    .record(matching(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a name of lower-case letters, digits and -'), channel)
    .default({})
    .describe('Where notices go, by name: type webhook, email, slack or teams.'),
}).transform(({ ending, give_up: giveUp, people, channels: named }) => ({
  ending,
  giveUp,
  people: new Map(Object.entries(people)),
  channels: Object.entries(named).map(([name, said]) => ({ name, ...said })),
}))
