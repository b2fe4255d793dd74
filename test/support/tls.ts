import { join } from 'node:path'
import { runProgram, temporaryFolder } from './program.ts'

/** A self-signed certificate for 127.0.0.1 and its key: paths of PEM files, and what a client must trust. */
export async function makeTls(): Promise<{ readonly certificate: string; readonly key: string }> {
  const folder = temporaryFolder('tls')
  const [certificate, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  await runProgram('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=gate', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate],
  ])
  return { certificate, key }
}
