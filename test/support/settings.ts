import { join } from 'node:path'
import type { Settings } from '../../config/settings.ts'

/** Settings with loopback listeners on free ports and limits that no test meets by accident; say what is to differ. */
export function plainSettings(given: Pick<Settings, 'redis' | 'postgres' | 'state'> & Partial<Settings>): Settings {
  return {
    file: 'test',
    name: 'proxy-1',
    publicHttp: undefined,
    publicSsh: undefined,
    publicAdmin: undefined,
    listen: {
      http: { host: '127.0.0.1', port: 0 },
      ssh: { host: '127.0.0.1', port: 0 },
      admin: { host: '127.0.0.1', port: 0 },
    },
    upstreams: new Map(),
    policy: undefined,
    ssh: { hostKeys: [], trustedUserCAKeys: [] },
    ca: {
      configured: false,
      directory: join(given.state, 'ca'),
      socket: join(given.state, 'ca.sock'),
      passphrase: undefined,
    },
    workers: 1,
    proxyProtocol: [],
    limits: {
      commands: 10_000,
      connectionsPerSource: 20_000,
      connections: 20_000,
      loginGrace: 30_000,
      loginAttempts: 6,
      channels: 64,
      headers: 10_000,
      bodyIdle: 60_000,
      total: 3_600_000,
      drain: 2_000,
      redisSilence: 4_000,
    },
    ledger: { whenAway: 'refuse', spoolBytes: 0 },
    reuse: { enabled: process.env.STAND_REUSE === 'on', ttl: 60_000, bytes: 256 << 20, folder: undefined },
    ...given,
  }
}
