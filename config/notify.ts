import type { Weekly } from './policy/hours.ts'

/** Who is told what, and where: the section `notify:` of the settings. */

/** What there is to be told of. */
export const EVENTS = [
  'request.made',
  'request.escalated',
  'request.vote',
  'request.comment',
  'request.approved',
  'request.denied',
  'request.withdrawn',
  'request.lapsed',
  'request.break-glass',
  'window.issued',
  'window.extended',
  'window.ending',
  'window.ended',
  'principal.locked',
  'principal.unlocked',
  'anomaly.found',
  'bypass.suspected',
] as const
export type Event = (typeof EVENTS)[number]

/** These do not wait for working hours. */
export const URGENT: ReadonlySet<Event> = new Set(['request.break-glass', 'principal.locked', 'bypass.suspected'])

interface Told {
  readonly name: string
  /** Which events; all of them where there is no list. */
  readonly events?: readonly Event[] | undefined
  /** Only about repositories that match one of these; all of them where there is no list. */
  readonly repositories?: readonly string[] | undefined
  /** Outside of them notices wait, except those that are urgent. */
  readonly hours?: Weekly | undefined
}

/** What needs nobody at once is told together. */
export type DigestSettings = {
  /** These are gathered; those that need nobody at once where there is no list. */
  readonly events?: readonly Event[] | undefined
} & ({ readonly every: 'hour' } | { readonly every: 'day'; readonly at: Weekly })

export interface WebhookSettings extends Told {
  readonly type: 'webhook'
  readonly url: URL
  /** `whsec_` and base64, as standardwebhooks has it. */
  readonly secret: string
}

export interface EmailSettings extends Told {
  readonly type: 'email'
  /** `smtp:` or `smtps:`, without a credential. */
  readonly smtp: URL
  readonly username?: string | undefined
  readonly password?: string | undefined
  /** Whether STARTTLS has to be offered where the URL says `smtp:`. */
  readonly requireTls: boolean
  readonly from: string
  /** Where `List-Unsubscribe` leads: `mailto:` or `https:`. */
  readonly unsubscribe: string
  readonly digest?: DigestSettings | undefined
  /** Addresses that hear everything this channel tells. */
  readonly also: readonly string[]
}

export interface SlackSettings extends Told {
  readonly type: 'slack'
  readonly token: string
  /** Where requests are shown. */
  readonly channel: string
  /** Of the HTTP endpoint for actions and commands; without it there is none. */
  readonly signingSecret?: string | undefined
  /** Of the app itself, for Socket Mode; without it no connection is opened. */
  readonly appToken?: string | undefined
  /** Where the Web API is; Slack's own unless given. */
  readonly api?: URL | undefined
}

export interface TeamsSettings extends Told {
  readonly type: 'teams'
  /** Not of a bot's card, which is edited and calls nobody. */
  readonly digest?: DigestSettings | undefined
  /** Posts to a channel with buttons; instead of `url`. */
  readonly bot?: TeamsBotSettings | undefined
  /** A workflow that posts to a channel. Its address is its secret. */
  readonly url?: URL | undefined
  /** A workflow that posts to the chat of the person whom the message names. */
  readonly chat?: URL | undefined
}

/** A bot of the Bot Framework, registered in one tenant. */
export interface TeamsBotSettings {
  /** Of the app, which tokens are for. */
  readonly appId: string
  readonly tenant: string
  readonly secret: string
  /** In which channel of a team requests are shown: `19:…@thread.tacv2`. */
  readonly channel: string
  /** Where the Bot Connector, its keys and sign-ins are; those of the public cloud unless given. */
  readonly service: URL
  readonly metadata: URL
  readonly login: URL
}

export type ChannelSettings = WebhookSettings | EmailSettings | SlackSettings | TeamsSettings

/** How a person is reached, where that cannot be told from the names they sign in with, and when. */
export interface Reach {
  /** Outside of them notices to this person wait, except those that are urgent. */
  readonly hours?: Weekly | undefined
  readonly email?: string | undefined
  readonly slack?: string | undefined
  /** The name they sign in to Microsoft 365 with, where that is not the address. */
  readonly teams?: string | undefined
  /** Their object id in the tenant, by which a bot knows them whatever they are called. */
  readonly teamsId?: string | undefined
}

export interface NotifySettings {
  /** How long before its end a window is announced; milliseconds. */
  readonly ending: number
  /** After this a delivery is given up; milliseconds. */
  readonly giveUp: number
  /** Principal or person → where. */
  readonly people: ReadonlyMap<string, Reach>
  readonly channels: readonly ChannelSettings[]
}
