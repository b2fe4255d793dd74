/** A browser without a screen: keeps cookies by host, follows redirects, sends the forms it is shown. */
export interface Walker {
  /** The page at the end of all redirects. */
  go(url: string | URL, form?: Readonly<Record<string, string>>): Promise<Page>
  readonly cookies: Map<string, string>
}

export interface Page {
  readonly url: URL
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** Where its form goes, and its hidden fields. */
  readonly form?: { readonly action: URL; readonly fields: Readonly<Record<string, string>> }
}

const REDIRECTS_MAX = 20

export function createWalker(): Walker {
  const cookies = new Map<string, string>()
  const go = async (to: string | URL, form?: Readonly<Record<string, string>>): Promise<Page> => {
    let url = new URL(to)
    let body = form && new URLSearchParams(form)
    for (let i = 0; i < REDIRECTS_MAX; i++) {
      const held = [...cookies].filter(([name]) => name.startsWith(`${url.host} `))
      const cookie = held.map(([name, value]) => `${name.slice(url.host.length + 1)}=${value}`).join('; ')
      const answer = await fetch(url, {
        redirect: 'manual',
        headers: { ...(cookie && { cookie }) },
        ...(body && { method: 'POST', body }),
      })
      for (const line of answer.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
        if (/max-age=0|expires=thu, 01 jan 1970/i.test(line)) cookies.delete(`${url.host} ${name}`)
        else cookies.set(`${url.host} ${name}`, value)
      }
      const onward = answer.headers.get('location')
      const text = await answer.text()
      if (onward === null) return { url, status: answer.status, headers: answer.headers, text, ...formOf(text, url) }
      url = new URL(onward, url)
      body = undefined
    }
    throw new Error(`too many redirects, the last to ${url}`)
  }
  return { go, cookies }
}

function formOf(text: string, url: URL) {
  const [, action] = /<form[^>]*action="([^"]*)"/.exec(text) ?? []
  if (action === undefined) return {}
  const inputs = [...text.matchAll(/<input[^>]*>/g)].map(([input]) => input)
  const fields = inputs
    .filter(input => input.includes('type="hidden"'))
    .map(input => [/name="([^"]*)"/.exec(input)?.[1] ?? '', /value="([^"]*)"/.exec(input)?.[1] ?? ''])
  return { form: { action: new URL(action.replaceAll('&amp;', '&'), url), fields: Object.fromEntries(fields) } }
}

/** Says who one is when the provider asks, and gives the page that comes after. */
export async function throughProvider(walker: Walker, start: string | URL, account: string): Promise<Page> {
  const page = await walker.go(start)
  if (!page.url.pathname.startsWith('/interaction/')) return page
  return await walker.go(page.form?.action ?? page.url, { login: account })
}
