import { constants } from 'node:fs'
import { chmod, lstat, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** The authority's files: nobody else may read them, and after a crash each holds its old content or its new. */

const FILE_BYTES_MAX = 16 << 20

/** Makes the directory where it is missing; refuses one that others can enter. */
export async function openPrivateDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const stat = await lstat(directory)
  if (!stat.isDirectory())
    throw new Error(`${directory} is no directory of our own (a link?); give the directory itself`)
  refuseOthers(directory, stat, '0700')
}

/** Writes beside the file, syncs, and renames over it; the directory is synced as well, or the rename itself could be lost. */
export async function writeDurably(file: string, content: Buffer | string): Promise<void> {
  const beside = `${file}.new`
  await rm(beside, { force: true })
  const handle = await open(beside, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await chmod(beside, 0o600)
  await rename(beside, file)
  await syncDirectory(dirname(file))
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Reads a private file; undefined where there is none. Refuses links, and files that others may read. */
export async function readPrivate(file: string): Promise<Buffer | undefined> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const stat = await handle.stat()
    refuseOthers(file, stat, '0600')
    if (stat.size > FILE_BYTES_MAX) throw new Error(`${file}: ${stat.size} bytes, at most ${FILE_BYTES_MAX} are read`)
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

function refuseOthers(path: string, stat: { mode: number; uid: number }, wanted: string): void {
  if ((stat.mode & 0o077) !== 0) {
    throw new Error(`${path}: others can read it (mode ${(stat.mode & 0o777).toString(8)}); chmod ${wanted} ${path}`)
  }
  const uid = process.getuid?.()
  if (uid !== undefined && stat.uid !== uid)
    throw new Error(`${path}: it belongs to user ${stat.uid}, this process runs as ${uid}`)
}
