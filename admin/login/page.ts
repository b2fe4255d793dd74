import { escapeHtml } from '../../audit/escape.ts'
import { pages } from '../page.ts'

/** What a browser shows of a sign-in. Whatever others typed is escaped. */

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.3rem}code,b.code{font-family:ui-monospace,monospace}b.code{font-size:1.8rem;letter-spacing:.1em;display:block;margin:.5rem 0}
dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1rem}dt{color:#57606a}dd{margin:0;overflow-wrap:anywhere}
button{font:inherit;padding:.5rem 1.2rem;margin-right:.6rem;border:1px solid #1b1f24;border-radius:.4rem;background:#fff;cursor:pointer}
button.yes{background:#1b1f24;color:#fff}input{font:inherit;font-family:ui-monospace,monospace;padding:.4rem;text-transform:uppercase}`

const { page, lastPage, headers } = pages(STYLE)

export { lastPage }

/**
 * For every page. `form-action` is ours alone on the page that confirms; the one that takes a code leads on to the provider, and
 * browsers hold that against the form too.
 */
export function pageHeaders(form: 'ours' | 'onward' | 'none'): Record<string, string> {
  const action = { ours: "'self'", onward: undefined, none: "'none'" } as const
  return headers(action[form])
}

/** Asks for the code that the terminal shows. */
export function codePage(wrong: string | undefined): string {
  const note = wrong === undefined ? '' : `<p role="alert">${escapeHtml(wrong)}</p>`
  return page(
    'Sign in to the gate',
    `${note}<form action="/login" method="get"><p><label for="code">The code your terminal shows:</label></p>
<p><input id="code" name="code" autocomplete="off" autofocus required maxlength="20" placeholder="XXXX-XXXX"></p>
<p><button class="yes">Go on</button></p></form>`,
  )
}

export interface Asked {
  readonly principal: string
  readonly code: string
  readonly address: string
  readonly client: string
  /** Fingerprint of the key that will stand for the person. */
  readonly key?: string
  readonly until: string
  /** Against forged forms. */
  readonly proof: string
}

/** Asks the person, by the provider's word, whether the terminal is theirs. */
export function confirmPage(asked: Asked): string {
  const { principal, code, address, client, key, until, proof } = asked
  const rows = [
    ['You are', principal],
    ['Who asks', client],
    ['From', address],
    ...(key === undefined ? [] : [['SSH key', key]]),
    ['Until', until],
  ]
  return page(
    'Is this your terminal?',
    `<p>Go on only if <strong>you started this yourself</strong> and your terminal shows exactly this code:</p>
<b class="code">${escapeHtml(code)}</b>
<dl>${rows.map(([term, value]) => `<dt>${escapeHtml(term ?? '')}</dt><dd>${escapeHtml(value ?? '')}</dd>`).join('')}</dl>
<p>Whoever holds that terminal will act as you. If somebody sent you here, refuse.</p>
<form action="/login/confirm" method="post"><input type="hidden" name="proof" value="${escapeHtml(proof)}">
<button class="yes" name="answer" value="allow">Yes, sign in</button><button name="answer" value="refuse">No</button></form>`,
  )
}
