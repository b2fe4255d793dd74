import { createHash } from 'node:crypto'
import type { Payload } from './payload.ts'
import { details, headline } from './words.ts'

/** The pages behind one-time links. No script, nothing from elsewhere, everything escaped. */

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.3rem;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1rem}dt{color:#57606a}
dd{margin:0;overflow-wrap:anywhere}textarea{font:inherit;width:100%;box-sizing:border-box}
button{font:inherit;padding:.5rem 1.2rem;margin:.6rem .6rem 0 0;border:1px solid #1b1f24;border-radius:.4rem;background:#fff}
button.yes{background:#1b1f24;color:#fff}`
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'`,
  'cache-control': 'no-store',
  // The link is a secret until it is used; it is told to nobody the page might lead to.
  'referrer-policy': 'no-referrer',
  'x-robots-tag': 'noindex',
}

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

export function lastPage(title: string, sentence: string): string {
  return page(title, `<p>${escapeHtml(sentence)}</p>`)
}

function page(title: string, content: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title><style>${STYLE}</style><h1>${escapeHtml(title)}</h1>
${content}</html>
`
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.codePointAt(0)};`)
}
