/** One window and how it ends. Pure: a table, and a comparison of times; a window that ended stays ended. */

export type WindowState = 'scheduled' | 'live' | Ending
/** The words of `grant.ended` in the ledger. */
export type Ending = 'expired' | 'revoked' | 'released' | 'idle' | 'used' | 'locked'

export interface Window {
  readonly repository: string
  readonly state: WindowState
  /** Milliseconds since the epoch; open while `starts <= now < expires`. */
  readonly starts: number
  readonly expires: number
  /** Milliseconds without use after which it ends, counted from `lastUsed`. */
  readonly idle?: number
  readonly lastUsed: number
  /** Uses left, where they are counted. */
  readonly left?: number
}

export type WindowEvent =
  | 'start'
  | 'expire'
  | 'idle'
  | 'use-up'
  | 'release'
  | 'revoke'
  | 'lock'
  | 'deny'
  | 'withdraw'
  | 'extend'

type Moves = Partial<Record<WindowEvent, WindowState>>

// A denial or withdrawal that comes after the approval still wins: it ends what the approval opened.
const ENDINGS = {
  release: 'released',
  withdraw: 'released',
  revoke: 'revoked',
  deny: 'revoked',
  lock: 'locked',
  expire: 'expired',
} as const satisfies Moves

/** What is not in the table does not happen. No ending has a way out. */
export const WINDOW_TABLE: Readonly<Record<WindowState, Moves>> = {
  scheduled: { ...ENDINGS, start: 'live', extend: 'scheduled' },
  live: { ...ENDINGS, idle: 'idle', 'use-up': 'used', extend: 'live' },
  expired: {},
  revoked: {},
  released: {},
  idle: {},
  used: {},
  locked: {},
}

/** The window after the event; the same window where the event means nothing to it. */
export function moveWindow(window: Window, event: WindowEvent): Window {
  const state = WINDOW_TABLE[window.state][event]
  return state === undefined ? window : { ...window, state }
}

/** Scheduled or live: it gives access now or may later. */
export const isStanding = ({ state }: Window): boolean => state === 'scheduled' || state === 'live'

/** The window as time alone has made it by `now`. */
export function settleWindow(window: Window, now: number): Window {
  let settled = window
  if (settled.state === 'scheduled' && settled.starts <= now) settled = moveWindow(settled, 'start')
  if (settled.state !== 'live') return now >= settled.expires ? moveWindow(settled, 'expire') : settled
  const idleEnd = idleEndOf(settled)
  // What came first ended it.
  if (idleEnd <= now && idleEnd < settled.expires) return moveWindow(settled, 'idle')
  return now >= settled.expires ? moveWindow(settled, 'expire') : settled
}

/** Whether it lets something through at this moment, whatever was or was not told to it since. */
export function isOpen(window: Window, now: number): boolean {
  return (
    isStanding(window) && window.starts <= now && now < window.expires && now < idleEndOf(window) && window.left !== 0
  )
}

/** Something went through: the idle clock begins again, and a counted use is gone. */
export function useWindow(window: Window, at: number): Window {
  if (window.state !== 'live') return window
  const left = window.left === undefined ? {} : { left: Math.max(0, window.left - 1) }
  const used: Window = { ...window, ...left, lastUsed: Math.max(window.lastUsed, at) }
  return used.left === 0 ? moveWindow(used, 'use-up') : used
}

/** A later end; never an earlier one, and never for a window that ended. */
export function extendWindow(window: Window, expires: number): Window {
  if (!isStanding(window) || expires <= window.expires) return window
  return moveWindow({ ...window, expires }, 'extend')
}

const idleEndOf = ({ idle, lastUsed, starts }: Window) =>
  idle === undefined ? Number.POSITIVE_INFINITY : Math.max(lastUsed, starts) + idle
