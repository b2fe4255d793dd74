import { createPrivateKey, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { lstat, readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Settings, Tls } from '../../config/settings.ts'
import { ssh2State } from '../../proxy/ssh/patched.ts'
import { examine, type Finding, failed, ok, warning } from './finding.ts'

const FREE_BYTES_MIN = 1 << 30
const RENEW_DAYS = 21
const DAY = 24 * 3_600_000

/** This machine: the program, files nobody else may read, room on disk, and TLS certificates. */
export async function machineFindings(settings: Settings, now: number): Promise<readonly Finding[]> {
  const { http, admin } = settings.listen
  const findings = await Promise.all([
    examine('program', 'run: node deploy/setup.mjs', async () => programFindings()),
    examine('files', 'see that this account may read the folder', () => fileFindings(settings)),
    examine('disk', 'see that the folder is there', () => diskFinding(settings)),
    ...Object.entries({ http, admin }).map(([name, listener]) =>
      // What the authority gives is made when the gate starts.
      listener?.tls && !listener.tls.issued
        ? examine(`tls.${name}`, 'put a certificate and its key there', tlsFinding(name, listener.tls, now))
        : [],
    ),
  ])
  return findings.flat()
}

function programFindings(): Finding[] {
  const { patched, nativeCrypto } = ssh2State()
  return [
    patched
      ? ok('program.ssh2', 'ssh2 has its patch')
      : failed('program.ssh2', 'ssh2 lacks its patch, and the SSH front does not start', 'run: node deploy/setup.mjs'),
    nativeCrypto
      ? ok('program.crypto', 'ssh2 has its native ciphers')
      : warning(
          'program.crypto',
          'ssh2 runs without its native ciphers, which costs CPU',
          'install a C++ compiler, then: node deploy/setup.mjs',
        ),
  ]
}

/** Files that hold keys, here and now; one finding for each that others can reach. */
async function fileFindings(settings: Settings): Promise<Finding[]> {
  const { state, ssh, ca, listen } = settings
  const keys = [
    ...ssh.hostKeys,
    ...[listen.http?.tls?.key, listen.admin.tls?.key].filter(file => file !== undefined),
    ...(await filesIn(state, name => /key$|\.jwk$|passphrase/.test(name))),
    ...(await filesIn(join(state, 'tokens'))),
    ...(await filesIn(join(state, 'ledger'), name => name.endsWith('.key'))),
    ...(await filesIn(ca.directory)),
  ]
  const present = [...new Set(keys)].filter(file => existsSync(file))
  const found: Finding[] = []
  for (const file of present) {
    const { mode } = await stat(file)
    if ((mode & 0o077) === 0) continue
    const who = (mode & 0o007) === 0 ? 'its group' : 'everybody'
    // A TLS key is often shared with a group that renews it.
    const shared = file === listen.http?.tls?.key || file === listen.admin.tls?.key
    const finding = shared && (mode & 0o007) === 0 ? warning : failed
    found.push(
      finding(
        'files.mode',
        `${file} is open to ${who}`,
        `chmod 600 ${file}; if others can have read it, make a new key`,
      ),
    )
  }
  if (found.length > 0) return found
  return [
    ok(
      'files.mode',
      present.length === 0 ? 'there are no keys yet' : `${present.length} files with keys are ours alone`,
    ),
  ]
}

async function filesIn(folder: string, named: (name: string) => boolean = () => true): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter(named).map(name => join(folder, name))
    const kinds = await Promise.all(names.map(async name => (await lstat(name)).isFile()))
    return names.filter((_, index) => kinds[index])
  } catch (cause) {
    if (Reflect.get(Object(cause), 'code') === 'ENOENT') return []
    throw cause
  }
}

async function diskFinding({ state, ledger }: Settings): Promise<Finding> {
  const folder = existsSync(state) ? state : join(state, '..')
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const spool = ledger.whenAway === 'spool' ? ledger.spoolBytes : 0
  const found = `${mebibytes(free)} are free at ${folder}`
  if (free < spool) {
    return failed('disk', `${found}, and the spool may take ${mebibytes(spool)}`, 'make room, or lower ledger.spool')
  }
  if (free - spool < FREE_BYTES_MIN) return warning('disk', found, 'make room: at least a gibibyte beside the spool')
  return ok('disk', found)
}

function tlsFinding(name: string, { certificate, key }: Tls, now: number) {
  return async (): Promise<Finding> => {
    const check = `tls.${name}`
    const pair = new X509Certificate(readFileSync(certificate))
    if (!pair.checkPrivateKey(createPrivateKey(readFileSync(key)))) {
      return failed(
        check,
        `${key} is not the key of ${certificate}`,
        'put the key there that the certificate was made for',
      )
    }
    return dates(check, certificate, pair, now)
  }
}

/** Whether a certificate holds now, and for long enough to renew it. */
export function dates(
  check: string,
  what: string,
  { validFrom, validTo }: Pick<X509Certificate, 'validFrom' | 'validTo'>,
  now: number,
): Finding {
  const left = Math.floor((Date.parse(validTo) - now) / DAY)
  if (Date.parse(validFrom) > now)
    return failed(check, `${what} holds from ${validFrom} on`, "look at this machine's clock")
  if (left < 0) return failed(check, `${what} ran out at ${validTo}`, 'renew it; the new one is taken up by itself')
  if (left < RENEW_DAYS)
    return warning(check, `${what} runs out in ${left} days`, 'renew it; the new one is taken up by itself')
  return ok(check, `${what} holds for ${left} days`)
}

function mebibytes(bytes: number): string {
  return bytes >= 10 * 2 ** 30 ? `${Math.round(bytes / 2 ** 30)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`
}
