import { rmSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { makeSocketFolder } from './embedded/where.ts'

/**
 * Holds a folder for as long as this process lives: by a unix socket, which the kernel takes back however the process ends.
 * (A file with a process id in it is fooled by the next process of that number.)
 * @returns undefined when another process holds it
 */
export async function holdFolder(folder: string, name: string): Promise<(() => void) | undefined> {
  const path = join(makeSocketFolder(folder), `${name}.lock`)
  const server = createServer(connection => connection.end(String(process.pid)))
  server.unref()
  if (!(await listening(server, path))) {
    if ((await holder(path)) !== undefined) return undefined
    rmSync(path, { force: true })
    if (!(await listening(server, path))) return undefined
  }
  // Two may have cleared the same dead socket; the path leads to only one of them.
  if ((await holder(path)) !== process.pid) {
    server.close()
    return undefined
  }
  return () => server.close()
}

function listening(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error))
    server.once('error', failed)
    server.listen({ path }, () => {
      server.off('error', failed)
      resolve(true)
    })
  })
}

/** The process that answers at a lock's socket. */
function holder(path: string): Promise<number | undefined> {
  return new Promise(resolve => {
    let text = ''
    const socket = connect(path)
    socket.setEncoding('latin1')
    socket.on('data', chunk => {
      text += chunk
    })
    socket.once('error', () => resolve(undefined))
    socket.once('close', () => resolve(Number(text) || undefined))
  })
}
