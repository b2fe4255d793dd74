import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startProgram, temporaryFolder, until } from '../support/program.ts'

const ROOT = new URL('../..', import.meta.url).pathname

/** A checkout whose npm is a script of ours: what setup asks of npm, without the network. */
function checkout(): { root: string; env: NodeJS.ProcessEnv; asked: () => string[] } {
  const root = temporaryFolder('checkout')
  for (const part of ['deploy/setup.mjs', 'deploy/setup'])
    cpSync(join(ROOT, part), join(root, part), { recursive: true })
  mkdirSync(join(root, 'patches'))
  const lock = {
    packages: {
      '': {},
      'node_modules/a': { version: '1.0.0' },
      'node_modules/b': { version: '2.0.0', optional: true },
    },
  }
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify(lock))
  const log = join(root, 'asked')
  const bin = join(root, 'bin')
  mkdirSync(bin)
  // npm ci takes its time and leaves what npm leaves; patch-package succeeds.
  writeFileSync(
    join(bin, 'npm'),
    `#!/bin/sh
echo "npm $*" >> ${log}
if [ "$1" = ci ]; then
  sleep 0.5
  mkdir -p ${root}/node_modules/.bin ${root}/node_modules/patch-package
  echo '{"packages":{"node_modules/a":{"version":"1.0.0"}}}' > ${root}/node_modules/.package-lock.json
  echo "require('fs').appendFileSync('${log}', 'patch-package' + require('os').EOL)" > ${root}/node_modules/patch-package/index.js
fi
`,
    { mode: 0o755 },
  )
  symlinkSync(process.execPath, join(bin, 'node'))
  const { npm_execpath: _, npm_node_execpath: __, ...rest } = process.env
  const env = { ...rest, PATH: `${bin}:${process.env.PATH}` }
  writeFileSync(log, '')
  return {
    root,
    env,
    asked: () =>
      readFileSync(log, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map(line => line.split(' --')[0]!),
  }
}

const setup = (root: string, env: NodeJS.ProcessEnv) =>
  startProgram(process.execPath, [join(root, 'deploy/setup.mjs')], { env, cwd: root })

/** Runs setup to its end; what it said goes into the message when it fails. */
async function setUp(root: string, env: NodeJS.ProcessEnv): Promise<string> {
  const run = await setup(root, env)
  const status = await run.ended
  expect(status, run.output()).toBe(0)
  return run.output()
}

test('a fresh checkout is installed, patched and built; the next run asks npm nothing', async () => {
  const { root, env, asked } = checkout()
  await setUp(root, env)
  expect(asked()).toEqual(['npm ci', 'patch-package', 'npm rebuild ssh2 cpu-features'])
  await setUp(root, env)
  expect(asked()).toHaveLength(3)
})

test('two at once wait for each other, and the second finds the work done', async () => {
  const { root, env, asked } = checkout()
  const both = [await setup(root, env), await setup(root, env)]
  expect(await Promise.all(both.map(one => one.ended))).toEqual([0, 0])
  expect(asked().filter(line => line === 'npm ci')).toHaveLength(1)
  expect(both.map(one => one.output()).join('')).toContain('another setup is running here')
})

test('the lock of a setup that was killed is taken over', async () => {
  const { root, env } = checkout()
  const killed = await setup(root, env)
  await until(() => killed.output().includes('npm ci'), 'the setup to begin')
  await killed.stop('SIGKILL')
  await setUp(root, env)
})

test('a changed lock file installs again, a changed patch is applied again', async () => {
  const { root, env, asked } = checkout()
  await setUp(root, env)
  writeFileSync(join(root, 'patches/a+1.0.0.patch'), 'changed')
  await setUp(root, env)
  expect(asked().filter(line => line === 'patch-package')).toHaveLength(2)
  writeFileSync(
    join(root, 'package-lock.json'),
    JSON.stringify({ packages: { 'node_modules/a': { version: '1.0.1' } } }),
  )
  await setUp(root, env)
  expect(asked().filter(line => line === 'npm ci')).toHaveLength(2)
})

test('without a compiler it says in one line what SSH goes without, and goes on', async () => {
  const { root, env } = checkout()
  expect(await setUp(root, env)).toMatch(
    /without native cryptography.*SSH costs more CPU; to have it: apt-get install g\+\+ make python3/,
  )
})

test('a missing program is named with the package that holds it', () => {
  const script = `import { missingPrograms } from ${JSON.stringify(join(ROOT, 'deploy/setup/programs.mjs'))}; console.log(JSON.stringify(missingPrograms(false)))`
  const missing = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { PATH: '/nowhere' },
      encoding: 'utf8',
    }),
  )
  expect(missing).toContainEqual({ name: 'redis-server', package: 'redis-server' })
})
