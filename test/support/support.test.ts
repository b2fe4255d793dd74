import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cloneRepository, commitFile, git, gitOk, makeRepository, refsOf } from './git.ts'
import { makeKey, signKey } from './keys.ts'
import { startNginx } from './nginx.ts'
import { startPostgres } from './postgres.ts'
import { startRedis } from './redis.ts'
import { sshCommand, startSshd } from './sshd.ts'

test('Redis starts, is killed and comes back with what it kept', async () => {
  const redis = await startRedis({ durable: true })
  const cli = (...args: string[]) =>
    execFileSync('redis-cli', ['-p', String(redis.port), ...args], { encoding: 'utf8' }).trim()
  expect(cli('set', 'a', '1')).toBe('OK')
  await redis.kill()
  await redis.restart()
  expect(cli('get', 'a')).toBe('1')
  await redis.stop()
})

test('PostgreSQL starts, is killed and comes back with what was committed', async () => {
  const postgres = await startPostgres()
  const psql = (sql: string) => execFileSync('psql', ['-Atc', sql, postgres.url], { encoding: 'utf8' }).trim()
  psql('create table t (n int)')
  psql('insert into t values (7)')
  expect(psql('show fsync')).toBe('on')
  await postgres.kill()
  await postgres.restart()
  expect(psql('select n from t')).toBe('7')
  await postgres.stop()
})

test('a stock sshd serves repositories to a key and to a certificate', async () => {
  const key = await makeKey('key')
  const ca = await makeKey('ca')
  const holder = await makeKey('holder')
  const sshd = await startSshd({
    authorizedKeys: [key.publicKey],
    trustedUserCAKeys: [ca.publicKey],
    authorizedPrincipals: ['git'],
  })
  const repository = await makeRepository(join(sshd.folder, 'app.git'), { commits: 2, branches: ['dev'], tags: ['v1'] })
  await signKey({ ca, key: holder, id: 'holder', principals: ['git'], serial: 5 })
  for (const path of [key.path, holder.path]) {
    const listed = await gitOk(['ls-remote', `${sshd.url}${repository}`], {
      env: { GIT_SSH_COMMAND: sshCommand({ key: path }) },
    })
    expect(listed).toContain('refs/heads/dev')
  }
  const stranger = await makeKey('stranger')
  const refused = await git(['ls-remote', `${sshd.url}${repository}`], {
    env: { GIT_SSH_COMMAND: sshCommand({ key: stranger.path }) },
  })
  expect(refused.status).toBe(128)
  await sshd.stop()
})

test('nginx serves repositories behind a password, and tells what was asked of it', async () => {
  const nginx = await startNginx({ basic: { username: 'bot', password: 's3cret' } })
  const repository = await makeRepository(join(nginx.folder, 'acme/app.git'), { commits: 2, bytes: 3 << 20 })
  const url = nginx.url.replace('//', '//bot:s3cret@')
  const work = await cloneRepository(`${url}acme/app.git`)
  const id = await commitFile(work)
  await gitOk(['push', '-q', 'origin', 'HEAD:refs/heads/new'], { cwd: work })
  expect((await refsOf(repository))['refs/heads/new']).toBe(id)
  expect(nginx.requests().some(line => line.startsWith('POST /acme/app.git/git-receive-pack 200'))).toBe(true)
  expect((await git(['ls-remote', `${nginx.url}acme/app.git`])).status).toBe(128)
  await nginx.stop()
  expect(existsSync(join(repository, 'HEAD')) && readFileSync(join(repository, 'HEAD'), 'utf8')).toContain(
    'refs/heads/main',
  )
})
