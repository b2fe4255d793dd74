import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Puts `text` between a page's marks `<!-- name:begin -->` and `<!-- name:end -->`. */
export function fill(page: string, name: string, text: string): void {
  const path = fileURLToPath(new URL(`../${page}`, import.meta.url))
  const before = readFileSync(path, 'utf8')
  const [opening, closing] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`]
  const [begin, end] = [before.indexOf(opening), before.indexOf(closing)]
  if (begin < 0 || end < begin) throw new Error(`${page} has no ${opening} … ${closing}`)
  writeFileSync(path, `${before.slice(0, begin + opening.length)}\n${text}\n${before.slice(end)}`)
}
