import { escapeHtml } from '../../audit/escape.ts'
import { pages } from '../page.ts'
import type { Payload } from './payload.ts'
import { details, headline } from './words.ts'

/** The pages behind one-time links. Everything is escaped. */

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.3rem;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1rem}dt{color:#57606a}
dd{margin:0;overflow-wrap:anywhere}textarea{font:inherit;width:100%;box-sizing:border-box}
button{font:inherit;padding:.5rem 1.2rem;margin:.6rem .6rem 0 0;border:1px solid #1b1f24;border-radius:.4rem;background:#fff}
button.yes{background:#1b1f24;color:#fff}`
const { page, lastPage, headers } = pages(STYLE)

export { lastPage }

export const PAGE_HEADERS: Readonly<Record<string, string>> = { ...headers("'self'"), 'x-robots-tag': 'noindex' }

/** Shows the request and asks; nothing is decided by looking. */
export function decisionPage(content: Payload, person: string): string {
  const rows = details(content).map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`)
  return page(
    headline(content),
    `<dl>${rows.join('')}</dl>
<form method="post"><p><label for="reason">You decide as <strong>${escapeHtml(person)}</strong>. A word on it, if you like:</label></p>
<textarea id="reason" name="reason" maxlength="500" rows="2"></textarea>
<button class="yes" name="says" value="approve">Approve</button><button name="says" value="deny">Deny</button></form>`,
  )
}
