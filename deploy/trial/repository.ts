import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

/** The sample repository: three commits, two branches, a tag. Kept when it is there already: somebody may have pushed to it. */
export async function makeHello(path: string): Promise<void> {
  if (existsSync(path)) return
  mkdirSync(dirname(path), { recursive: true })
  const made = `${path}.new`
  rmSync(made, { recursive: true, force: true })
  await git(['init', '-q', '--bare', '--initial-branch=main', made])
  await git(['-C', made, 'config', 'receive.advertisePushOptions', 'true'])
  await git(['-C', made, 'config', 'uploadpack.allowFilter', 'true'])
  await git(['-C', made, 'fast-import', '--quiet'], history())
  renameSync(made, path)
}

/** The stream git fast-import reads. */
function history(): string {
  let mark = 0
  const commit = (ref: string, seconds: number, message: string, file: string, content: string) => {
    const data = (text: string) => `data ${Buffer.byteLength(text)}\n${text}\n`
    return `commit ${ref}\nmark :${++mark}\ncommitter Hello <hello@example.org> ${seconds} +0000\n${data(message)}M 100644 inline ${file}\n${data(content)}\n`
  }
  return [
    commit(
      'refs/heads/main',
      1_767_225_600,
      'Say hello\n',
      'README.md',
      '# Hello\n\nA repository behind Drawbridge.\n',
    ),
    commit('refs/heads/main', 1_767_229_200, 'Greet by name\n', 'hello.sh', '#!/bin/sh\necho "hello, $USER"\n'),
    'tag v1.0\nfrom :2\ntagger Hello <hello@example.org> 1767232800 +0000\ndata 12\nVersion 1.0\n\n',
    commit(
      'refs/heads/main',
      1_767_236_400,
      'Greet the world by default\n',
      'hello.sh',
      '#!/bin/sh\necho "hello, ${USER:-world}"\n',
    ),
    'reset refs/heads/release/1.0\nfrom :2\n\n',
  ].join('')
}

async function git(args: readonly string[], input = ''): Promise<void> {
  const child = spawn('git', args, { stdio: ['pipe', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', chunk => {
    said += chunk
  })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', cause => reject(new Error(`git cannot be run: ${cause.message}; install git`, { cause })))
    child.once('close', resolve)
  })
  if (status !== 0) throw new Error(`git ${args.join(' ')} ended with ${status}: ${said.trim()}`)
}
