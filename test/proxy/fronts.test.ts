import { pino } from 'pino'
import { expect, test } from 'vitest'
import type { FollowedAuthority } from '../../proxy/authority.ts'
import { startFronts } from '../../proxy/fronts.ts'
import { makeKey } from '../support/keys.ts'
import { accepts, freePort, temporaryFolder } from '../support/program.ts'
import { plainSettings } from '../support/settings.ts'

type Options = Parameters<typeof startFronts>[0]

/** The fronts of a gate with an authority that can be asked or not; nobody comes to them. */
async function fronts(learn: () => Promise<void>) {
  const [http, ssh] = [await freePort(), await freePort()]
  const settings = plainSettings({
    redis: '',
    postgres: '',
    state: temporaryFolder('fronts'),
    listen: {
      http: { host: '127.0.0.1', port: http },
      ssh: { host: '127.0.0.1', port: ssh },
      admin: { host: '127.0.0.1', port: 0 },
    },
    ssh: { hostKeys: [(await makeKey('gate-host')).path], trustedUserCAKeys: [] },
  })
  const authority: Partial<FollowedAuthority> = { learn, known: () => false }
  const signer: Partial<NonNullable<Options['signer']>> = {}
  const options = { settings, limits: settings.limits, signer, authority, log: pino({ level: 'silent' }) }
  const started = startFronts(options as unknown as Options)
  return { started, listening: async () => [await accepts({ port: http }), await accepts({ port: ssh })] }
}

test('a front that listens already is closed where the start fails behind it', async () => {
  const failing = await fronts(async () => {
    expect(await failing.listening()).toEqual([true, true])
    throw new Error('Redis cannot be asked')
  })
  await expect(failing.started).rejects.toThrow('Redis cannot be asked')
  expect(await failing.listening()).toEqual([false, false])
})
