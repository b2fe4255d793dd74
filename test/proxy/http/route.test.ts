import { expect, test } from 'vitest'
import { parseAuthorization } from '../../../proxy/http/authorization.ts'
import { route } from '../../../proxy/http/route.ts'

test('the URLs of smart HTTP are found, with .git and without', () => {
  const service = 'upload-pack'
  for (const path of ['/acme/app', '/acme/app.git', '/acme/group/app.git']) {
    expect(route('GET', `${path}/info/refs?service=git-upload-pack`)).toEqual({ kind: 'advertise', service, path })
    expect(route('POST', `${path}/git-upload-pack`)).toEqual({ kind: 'exchange', service, path })
    expect(route('POST', `${path}/git-receive-pack`)).toMatchObject({ kind: 'exchange', service: 'receive-pack' })
  }
})

test.each([
  ['GET', '/acme/app.git/HEAD', 403],
  ['GET', '/acme/app.git/info/refs', 403],
  ['GET', '/acme/app.git/objects/info/packs', 403],
  ['GET', '/acme/app.git/objects/12/34567890123456789012345678901234567890', 403],
  ['GET', '/acme/app.git/objects/pack/pack-1.idx', 403],
  ['GET', '/acme/app.git/info/attributes', 403],
  ['GET', '/acme/app.git/config', 403],
  ['GET', '/acme/app.git/packed-refs', 403],
  ['GET', '/acme/app.git/refs/heads/main', 403],
  ['GET', '/acme/app.git/info/refs?service=git-upload-archive', 403],
  ['POST', '/acme/app.git/git-upload-archive', 403],
  ['POST', '/acme/app.git/info/lfs/objects/batch', 404],
  ['GET', '/acme/app.git/info/refs?service=git-upload-pack&service=git-receive-pack', 400],
  ['GET', '/acme/app.git/info/refs?service=git-upload-pack%26', 400],
  ['GET', '/acme/app.git/info/refs?Service=git-upload-pack', 400],
  ['GET', '/acme/app.git/info/refs?service=git-upload-pack?x', 404],
  ['POST', '/acme/app.git/git-upload-pack?x', 400],
  ['GET', '/acme/app.git', 404],
  ['GET', '/', 404],
  ['GET', '*', 404],
  ['GET', 'http://elsewhere/acme/app.git/info/refs?service=git-upload-pack', 404],
  ['GET', `/acme/${'a'.repeat(5000)}/info/refs?service=git-upload-pack`, 404],
  ['POST', '/acme/app.git/info/refs?service=git-upload-pack', 405],
  ['HEAD', '/acme/app.git/info/refs?service=git-upload-pack', 405],
  ['GET', '/acme/app.git/git-upload-pack', 405],
  ['PUT', '/acme/app.git/objects/x', 405],
  ['PROPFIND', '/acme/app.git/', 405],
  ['POST', '/healthz', 405],
])('%s %s is refused with %i and a sentence', (method, target, status) => {
  const answer = route(method, target)
  expect(answer).toMatchObject({ kind: 'refused', status })
  expect(answer.kind === 'refused' && answer.text.length).toBeGreaterThan(20)
})

test('tokens come as the password of any user name, or as a bearer', () => {
  const basic = (pair: string) => parseAuthorization(`Basic ${Buffer.from(pair).toString('base64')}`)
  expect(basic('alice:t0ken')).toEqual({ scheme: 'basic', username: 'alice', token: 't0ken' })
  expect(basic(':t0:ken')).toEqual({ scheme: 'basic', username: '', token: 't0:ken' })
  expect(parseAuthorization('bEaReR abc.def-ghi')).toEqual({ scheme: 'bearer', token: 'abc.def-ghi' })
  expect(basic('alice:')).toBeUndefined()
  expect(basic('alice')).toBeUndefined()
  for (const bad of ['', 'Basic', 'Basic ???', 'Bearer a b', 'Negotiate abc', `Bearer ${'a'.repeat(13_000)}`]) {
    expect(parseAuthorization(bad), bad.slice(0, 40)).toBeUndefined()
  }
})
