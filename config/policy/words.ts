import { ACTIONS, type Action } from '../../grant/grant.ts'
import { checkRefPattern } from '../../grant/pattern.ts'
import { nearMiss } from '../nearmiss.ts'

/** The words people use for actions. Every other action's name means just itself. */
export const WORDS: Readonly<Record<string, readonly Action[]>> = {
  clone: ['fetch', 'lfs-download'],
  pull: ['fetch', 'lfs-download'],
  fetch: ['fetch', 'lfs-download'],
  // What a plain `git push` may do: nothing is lost by it. Force and delete are asked for by name.
  push: ['create', 'update', 'tag', 'lfs-upload'],
  'force-push': ['force'],
  read: ['fetch', 'archive', 'lfs-download'],
  write: ['create', 'update', 'force', 'delete', 'tag', 'lfs-upload'],
  everything: ACTIONS,
}

const NAMES: readonly string[] = [...new Set([...Object.keys(WORDS), ...ACTIONS])]

export const TRIGGER_FORM = `push, clone, "git push to release/*", or any of ${NAMES.join(', ')}`

export interface Trigger {
  readonly actions: readonly Action[]
  /** The ref of `push to main`. */
  readonly ref?: string
}

/** Reads `push`, `git clone`, `force push`, `push to release/*`, `git push origin main`. A string is what is wrong with it. */
export function readTrigger(text: string): Trigger | string {
  const words = text
    .trim()
    .replace(/^git\s+/i, '')
    .replace(/^force[\s_]push/i, 'force-push')
  const part = /^([a-z-]{1,20})(?:\s+(?:to|on|from|of|origin)\s+(\S{1,512}))?$/i.exec(words)
  const word = part?.[1]?.toLowerCase()
  const actions = word === undefined ? undefined : actionsOf(word)
  if (part === null || actions === undefined) {
    const near = nearMiss(word ?? words.split(/\s/)[0]!, NAMES)
    return `"${text.slice(0, 80)}" names no action${near ? `; did you mean ${near}?` : ''}; accepted is ${TRIGGER_FORM}`
  }
  const ref = part[2]
  if (ref === undefined) return { actions }
  const fault = checkRefPattern(ref)
  return fault ? `ref "${ref.slice(0, 80)}": ${fault}` : { actions, ref }
}

/** The actions a word stands for; undefined when it is none. */
export function actionsOf(word: string): readonly Action[] | undefined {
  if (Object.hasOwn(WORDS, word)) return WORDS[word]
  return ACTIONS.find(action => action === word) && [word as Action]
}
