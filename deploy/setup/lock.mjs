import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, say } from './say.mjs'

const WAIT_MILLISECONDS = 10 * 60_000

/** Runs `work` while no other setup of this checkout runs; waits for one that does. A dead holder's lock is taken over. */
export async function withLock(root, work) {
  const file = join(root, 'var', 'setup.lock')
  try {
    mkdirSync(join(root, 'var'), { recursive: true })
  } catch (error) {
    fail(`cannot write to ${root} (${error.code}); run npm once as the owner of the checkout`)
  }
  const deadline = Date.now() + WAIT_MILLISECONDS
  let told = false
  while (!take(file)) {
    if (Date.now() > deadline) fail(`another setup has held ${file} for ten minutes; end it, or remove the file`)
    if (!told) say('another setup is running here; waiting for it')
    told = true
    await new Promise(resolve => setTimeout(resolve, 200))
  }
  const release = () => rmSync(file, { force: true })
  process.on('exit', release)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
  work()
  release()
}

function take(file) {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') fail(`cannot write ${file}: ${error.code}`)
  }
  if (!alive(holder(file))) clear(file)
  return false
}

/** Moved aside before it goes: in the meantime somebody else may have cleared it and hold a lock of his own there. */
function clear(file) {
  const aside = `${file}.${process.pid}`
  try {
    renameSync(file, aside)
    if (alive(holder(aside))) renameSync(aside, file)
    else rmSync(aside)
  } catch {
    // Gone already: the next try will tell.
  }
}

function holder(file) {
  try {
    return Number(readFileSync(file, 'utf8'))
  } catch {
    return 0
  }
}

function alive(pid) {
  // Not yet written, by a holder that is between making the file and filling it.
  if (pid === 0) return true
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}
