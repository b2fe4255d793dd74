import { join } from 'node:path'
import type { Settings } from './settings.ts'

/** `sun_path` of unix(7) without its closing zero; Linux has 108 bytes for it, macOS 104. */
export const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107

/** The admin role's socket for its own machine's operators. */
export const adminSocket = (state: string): string => join(state, 'admin', 'api.sock')

/** Held by the one authority that uses a directory. */
const authorityLock = (directory: string): string => join(directory, 'lock')

/**
 * The sockets whose paths no kernel would take, each with the setting it comes from: `listen` would say no more than "invalid
 * argument" of them. The engines of a trial go elsewhere by themselves.
 */
export function socketsTooDeep({ state, ca }: Pick<Settings, 'state' | 'ca'>) {
  return [
    { setting: ['state'], path: adminSocket(state) },
    { setting: ['ca', 'socket'], path: ca.socket },
    { setting: ['ca', 'directory'], path: authorityLock(ca.directory) },
  ].flatMap(({ setting, path }) => {
    const bytes = Buffer.byteLength(path)
    return bytes > SOCKET_PATH_BYTES_MAX ? [{ setting, path, bytes }] : []
  })
}
