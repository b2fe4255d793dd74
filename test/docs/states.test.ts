import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { REQUEST_TABLE } from '../../admin/request.ts'
import { WINDOW_TABLE } from '../../admin/window.ts'

const PAGE = readFileSync(new URL('../../docs/how-it-works.md', import.meta.url), 'utf8')

/** State → event → state, as the page has it. */
function tableOf(name: string): Record<string, Record<string, string>> {
  const text = new RegExp(`<!-- states: ${name} -->\\n((?:\\|.*\\n)+)`).exec(PAGE)?.[1] ?? ''
  const [[, ...events] = [], , ...rows] = text
    .trim()
    .split('\n')
    .map(line =>
      line
        .slice(1, -1)
        .split('|')
        .map(cell => cell.trim()),
    )
  return Object.fromEntries(
    rows.map(([state = '', ...to]) => {
      const moves = to.map((after, at) => [events[at] ?? '', after] as const).filter(([, after]) => after !== '')
      return [state, Object.fromEntries(moves)]
    }),
  )
}

test.each([
  ['request', REQUEST_TABLE],
  ['window', WINDOW_TABLE],
])('the page has every state of a %s and every way from it', (name, table) => {
  expect(tableOf(name)).toEqual(table)
})
