import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { CommandContext } from '../../../proxy/ssh/session.ts'
import { git, gitOk, makeRepository } from '../../support/git.ts'
import { makeKey, signKey } from '../../support/keys.ts'
import { temporaryFolder, until } from '../../support/program.ts'
import { run, testFront } from './fixture.ts'

describe('stock git', () => {
  test('clones, fetches and pushes, in protocol 0 and 2, and archives', async () => {
    const gate = await testFront()
    await makeRepository(join(gate.folder, 'acme/app.git'), { commits: 5, bytes: 3 << 20 })
    const env = { GIT_SSH_COMMAND: ['ssh', ...gate.ssh(gate.alice)].join(' ') }
    const work = join(temporaryFolder('work'), 'app')
    await gitOk(['clone', '-q', gate.url('acme/app'), work], { env })
    writeFileSync(join(work, 'large'), Buffer.alloc(5 << 20, Math.random().toString()))
    await gitOk(['add', '.'], { cwd: work })
    await gitOk(['commit', '-qm', 'more'], { cwd: work })
    await gitOk(['push', '-q', 'origin', 'HEAD:refs/heads/topic'], { cwd: work, env })
    const pushed = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
    expect(await gitOk(['rev-parse', 'topic'], { cwd: join(gate.folder, 'acme/app.git') })).toBe(pushed)
    await gitOk(['-c', 'protocol.version=0', 'fetch', '-q', 'origin'], { cwd: work, env })
    await gitOk(['archive', `--remote=${gate.url('acme/app')}`, '-o', join(work, 'a.tar'), 'main'], { cwd: work, env })

    expect(gate.clients.map(({ service, protocol }) => [service, protocol])).toEqual([
      ['upload-pack', 2],
      // git does not ask for version 2 where it pushes.
      ['receive-pack', 0],
      ['upload-pack', 0],
      ['upload-archive', 2],
    ])
    expect(gate.clients[0]).toMatchObject({
      repository: 'acme/app',
      part: 'conversation',
      caller: {
        principal: 'alice',
        identity: { kind: 'key', fingerprint: gate.alice.fingerprint },
        credentials: [`key:${gate.alice.fingerprint}`],
        origin: { transport: 'ssh', address: '127.0.0.1', agent: expect.stringMatching(/^OpenSSH_/) },
      },
    })
  })

  test('rekeys in the middle of a clone and a push, and every byte arrives', async () => {
    const gate = await testFront()
    await makeRepository(join(gate.folder, 'acme/app.git'), { bytes: 6 << 20 })
    const env = { GIT_SSH_COMMAND: ['ssh', ...gate.ssh(gate.alice, ['-o', 'RekeyLimit=256K'])].join(' ') }
    const work = join(temporaryFolder('work'), 'app')
    await gitOk(['clone', '-q', gate.url('acme/app'), work], { env })
    const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
    const stored = await run('git', ['-C', join(gate.folder, 'acme/app.git'), 'hash-object', join(work, 'large.bin')])
    expect(await gitOk(['rev-parse', 'main:large.bin'], { cwd: join(gate.folder, 'acme/app.git') })).toBe(
      stored.stdout.trim(),
    )
    expect(digest(join(work, 'large.bin'))).toHaveLength(64)
    writeFileSync(
      join(work, 'more'),
      readFileSync(join(work, 'large.bin')).map(byte => byte ^ 0x5a),
    )
    await gitOk(['add', '.'], { cwd: work })
    await gitOk(['commit', '-qm', 'more'], { cwd: work })
    await gitOk(['push', '-q', 'origin', 'HEAD:refs/heads/topic'], { cwd: work, env })
    expect(await gitOk(['rev-parse', 'topic:more'], { cwd: join(gate.folder, 'acme/app.git') })).toBe(
      await gitOk(['rev-parse', 'HEAD:more'], { cwd: work }),
    )
  })

  test('shows the sentence about a path that is none as a remote error', async () => {
    const gate = await testFront()
    const env = { GIT_SSH_COMMAND: ['ssh', ...gate.ssh(gate.alice)].join(' ') }
    const clone = await git(['clone', `ssh://git@127.0.0.1:${gate.port}/nothing`], {
      env,
      cwd: temporaryFolder('work'),
    })
    expect(clone.status).toBe(128)
    expect(clone.stderr).toContain('fatal: remote error: "/nothing" is no repository path: write UPSTREAM/PATH.git')
    expect(gate.clients).toEqual([])
  })
})

describe('stock ssh', () => {
  test('gets exit status, standard output and standard error of a command, in full', async () => {
    const out = Buffer.alloc(3 << 20, 'o')
    const gate = await testFront({
      commands: {
        // Both exceed the window of stock ssh, so each has to wait for it while the other does.
        both: async (_args, { stdout, stderr }) => {
          stdout.write(out)
          stderr.write(Buffer.alloc(3 << 20, 'e'))
          return 3
        },
        count: async (_args, { stdin, stdout }) => {
          let bytes = 0
          for await (const chunk of stdin) bytes += chunk.length
          stdout.write(`${bytes}`)
          return 255
        },
      },
    })
    const both = await run('ssh', [...gate.ssh(gate.alice), gate.host, 'both'])
    expect({ status: both.status, out: both.stdout.length, err: both.stderr.length }).toEqual({
      status: 3,
      out: 3 << 20,
      err: 3 << 20,
    })
    expect(both.stdout).toBe(out.toString())
    // All of the input and its end come right behind the exec request: nothing of it may be lost.
    const count = await run('ssh', [...gate.ssh(gate.alice), gate.host, 'count'], Buffer.alloc(4 << 20))
    expect(count).toMatchObject({ status: 255, stdout: String(4 << 20) })
  })

  test.each([
    ['a shell', []],
    ['a command', ['ls', '/']],
    ['scp by the old protocol', ['scp', '-t', '/tmp']],
    ['the sftp subsystem', ['-s', 'sftp']],
    ['another subsystem', ['-s', 'netconf']],
  ])('asked for %s is told what works here, and fails', async (_what, command) => {
    const gate = await testFront()
    const flags = command[0] === '-s' ? ['-s'] : []
    const words = command.filter(word => word !== '-s')
    const asked = await run('ssh', [...gate.ssh(gate.alice), ...flags, gate.host, ...words])
    expect(asked.stderr).toContain(
      'drawbridge: this is a gate for Git: git clone, fetch, push and archive work here, and the commands whoami; nothing else does',
    )
    expect([127, 128]).toContain(asked.status)
    expect(gate.clients).toEqual([])
  })

  test('gets no terminal, no forwarding, no agent and no X11, and its other environment variables are dropped', async () => {
    const gate = await testFront()
    const forced = await run('ssh', [...gate.ssh(gate.alice), '-tt', gate.host, 'whoami'])
    expect(forced.stderr).toContain('PTY allocation request failed')
    const forward = ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1']
    const remote = await run('ssh', [...gate.ssh(gate.alice, forward), gate.host, 'whoami'])
    expect(remote.stderr).toContain('remote port forwarding failed')
    const direct = await run('ssh', [...gate.ssh(gate.alice), '-W', '127.0.0.1:1', gate.host])
    expect(direct.stderr).toContain('stdio forwarding failed')
    expect(direct.status).toBe(255)
    const env = await run('ssh', [
      ...gate.ssh(gate.alice, ['-o', 'SetEnv=LD_PRELOAD=/tmp/x']),
      '-A',
      gate.host,
      'whoami',
      'a',
    ])
    expect(env).toMatchObject({ status: 0, stdout: expect.stringMatching(/^alice key a /) })
  })

  test('killed in the middle of a clone aborts what serves it', async () => {
    let aborted = false
    const gate = await testFront({
      serve: ({ response, gone }) =>
        new Promise(resolve => {
          gone.addEventListener('abort', () => {
            aborted = true
            resolve({ status: 128, operation: 'op-test' })
          })
          const more = () => {
            while (!gone.aborted && response.write(Buffer.alloc(32 << 10)));
          }
          response.on('drain', more)
          more()
        }),
    })
    // Its output is never read, so that it dies with the window used up: the case in which ssh2 itself says nothing.
    const child = spawn('ssh', [...gate.ssh(gate.alice), gate.host, "git-upload-pack 'acme/app'"], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await until(() => gate.front.connections() === 1)
    await new Promise(resolve => setTimeout(resolve, 500))
    child.kill('SIGKILL')
    await until(() => aborted)
    await until(() => gate.front.connections() === 0)
  })

  test('multiplexes many commands over one connection', async () => {
    const gate = await testFront({ limits: { channels: 5 } })
    const control = ['-o', `ControlPath=${join(temporaryFolder('mux'), 's')}`]
    const master = spawn('ssh', [...gate.ssh(gate.alice, control), '-M', '-N', gate.host], { stdio: 'ignore' })
    await until(
      async () => (await run('ssh', [...gate.ssh(gate.alice, control), '-O', 'check', gate.host])).status === 0,
    )
    for (let round = 0; round < 3; round++) {
      const all = await Promise.all(
        Array.from({ length: 5 }, () => run('ssh', [...gate.ssh(gate.alice, control), gate.host, 'whoami'])),
      )
      expect(all.map(({ status }) => status)).toEqual([0, 0, 0, 0, 0])
    }
    expect(gate.front.connections()).toBe(1)
    // A key that is withdrawn while its connection is open stands for nobody from the next command on.
    gate.keys.clear()
    const late = await run('ssh', [...gate.ssh(gate.alice, control), gate.host, 'whoami'])
    expect(late).toMatchObject({ status: 128, stdout: '' })
    expect(late.stderr).toContain('the credential of this connection has ended')
    master.kill()
  })
})

describe('host keys', () => {
  test('come with their certificate, which stock ssh verifies by the @cert-authority line', async () => {
    const folder = temporaryFolder('hosts')
    for (const type of ['ed25519', 'ecdsa', 'rsa'] as const) {
      const ca = await makeKey(`ca-${type}`, { folder })
      const key = await makeKey(`host-${type}`, { folder, type })
      const { certificate } = await signKey({ ca, key, id: 'gate', host: true, principals: ['gate.example'] })
      const gate = await testFront({ hostKeys: [readFileSync(key.path)], hostCertificates: [certificate] })
      writeFileSync(gate.knownHosts, `@cert-authority gate.example ${ca.publicKey}\n`)
      const asked = await run('ssh', [
        ...gate.ssh(gate.alice, ['-o', 'HostKeyAlias=gate.example']),
        gate.host,
        'whoami',
      ])
      expect(asked.stderr).toBe('')
      expect(asked.status).toBe(0)
      // And the plain key still works for those who pinned it.
      writeFileSync(gate.knownHosts, '')
      appendFileSync(gate.knownHosts, `[127.0.0.1]:${gate.port} ${key.publicKey}\n`)
      expect((await run('ssh', [...gate.ssh(gate.alice), gate.host, 'whoami'])).status).toBe(0)
    }
  })

  test('with a certificate of another key are refused at start', async () => {
    const folder = temporaryFolder('hosts')
    const [ca, key] = [await makeKey('ca', { folder }), await makeKey('other', { folder })]
    const { certificate } = await signKey({ ca, key, id: 'gate', host: true, principals: ['gate'] })
    await expect(testFront({ hostCertificates: [certificate] })).rejects.toThrow('of no host key')
  })
})

describe('stopping', () => {
  test('lets the running command finish and takes no other', async () => {
    let finish: (() => void) | undefined
    const gate = await testFront({
      commands: {
        slow: async (_args, { stdout }) => {
          await new Promise<void>(resolve => {
            finish = resolve
          })
          stdout.write('done')
          return 0
        },
      },
    })
    const slow = run('ssh', [...gate.ssh(gate.alice), gate.host, 'slow'])
    await until(() => finish !== undefined)
    const closed = gate.front.close(20_000)
    expect((await run('ssh', [...gate.ssh(gate.alice), gate.host, 'whoami'])).status).toBe(255)
    finish?.()
    expect(await slow).toMatchObject({ status: 0, stdout: 'done' })
    await closed
  })

  test('ends what does not finish in time', async () => {
    let started = false
    const gate = await testFront({
      commands: {
        stuck: () => {
          started = true
          return new Promise(() => {})
        },
      },
    })
    const stuck = run('ssh', [...gate.ssh(gate.alice), gate.host, 'stuck'])
    await until(() => started)
    await gate.front.close(100)
    expect((await stuck).status).toBe(255)
  })
})

// What is lost here is a clone's last two megabytes: ssh drops what it has not handed on as soon as it hears goodbye.
test('a client that reads slowly gets the whole answer before an idle connection is ended', async () => {
  const bytes = 1_500_000
  const answered = Promise.withResolvers<void>()
  const commands = {
    whoami: async (_args: readonly string[], { stdout }: CommandContext) => {
      stdout.write(Buffer.alloc(bytes, 'x'), () => answered.resolve())
      return 0
    },
  }
  const gate = await testFront({ commands, idle: 50 })
  const client = spawn('ssh', [...gate.ssh(gate.alice), gate.host, 'whoami'], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(client, 'close')
  await answered.promise
  await sleep(500)
  const [answer, [status]] = await Promise.all([buffer(client.stdout), ended])
  expect([answer.length, status]).toEqual([bytes, 0])
})
