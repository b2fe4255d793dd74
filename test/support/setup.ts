import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const NODE_MAJOR = 24

/** vitest's globalSetup: the right Node, and one folder for what the workers of this run share. */
export default async function setup(): Promise<() => void> {
  const major = Number(process.versions.node.split('.')[0])
  if (major < NODE_MAJOR) {
    throw new Error(`these tests need Node ${NODE_MAJOR}, this is ${process.versions.node}: run them by "npm test"`)
  }
  sweep()
  const run = mkdtempSync(join(tmpdir(), `db-run-${process.pid}-`))
  // Servers that refuse root run under another account and read from here.
  await chmod(run, 0o755)
  process.env.DRAWBRIDGE_TEST_RUN = run
  return () => rmSync(run, { recursive: true, force: true })
}

/** Removes what runs that were killed left behind. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^db-run-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !alive(Number(pid))) rmSync(join(tmpdir(), name), { recursive: true, force: true })
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
