import { createHash } from 'node:crypto'
import { escapeHtml } from '../audit/escape.ts'

/** The few pages that a browser is given, each room's with a style of its own: no script, and nothing from elsewhere. */
export function pages(style: string) {
  const hash = createHash('sha256').update(style).digest('base64')

  /** `content` is HTML, whatever others typed escaped in it; the title is text. */
  function page(title: string, content: string): string {
    return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title><style>${style}</style><h1>${escapeHtml(title)}</h1>
${content}</html>
`
  }

  return {
    page,
    /** One sentence, at the end of it all. */
    lastPage: (title: string, sentence: string): string => page(title, `<p>${escapeHtml(sentence)}</p>`),
    /** @param form whom its form may be sent to, as `form-action` says it; left out: anybody */
    headers: (form?: "'self'" | "'none'"): Record<string, string> => ({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; frame-ancestors 'none'${form === undefined ? '' : `; form-action ${form}`}`,
      'cache-control': 'no-store',
      // The address may hold a secret until it is used; it is told to nobody the page might lead to.
      'referrer-policy': 'no-referrer',
    }),
  }
}
