import { Readable } from 'node:stream'
import { newId } from '../audit/id.ts'
import { coversRef } from '../grant/pattern.ts'
import { ARCHIVE_ACTIONS, failed, refuse, type Served, stopped, targetOf } from './advertise.ts'
import type { Client } from './client.ts'
import type { FetchOptions } from './fetch.ts'
import { PacketReader, ProtocolError } from './git/pktline.ts'
import { checkRefname } from './git/refname.ts'
import { readsAll } from './reading.ts'
import { relay } from './relay.ts'
import type { Wanted } from './wanted.ts'

/** git itself sends a handful of arguments. */
const ARGUMENTS_BYTES_MAX = 64 << 10

/** `git archive --remote`: a list of arguments to its flush packet, then the archive on side-band. */
export async function archive(client: Client, { gate, hostOf }: FetchOptions): Promise<Served> {
  const operation = newId('op')
  const args: string[] = []
  const wanted: Wanted = {
    operation,
    action: 'archive',
    actions: ARCHIVE_ACTIONS,
    covers: live => {
      const ref = refOf(args)
      const covering = live.filter(grant => readsAll(grant) || (ref !== undefined && coversRef(grant, ref)))
      return covering.length > 0 ? covering : undefined
    },
    explain: () => {
      const ref = refOf(args)
      if (ref === undefined)
        return 'your window is for some refs: name one in full, as in git archive … refs/heads/main'
      return `${ref} is not among the refs your window lets you read`
    },
    mayWait: true,
  }
  const reader = new PacketReader(client.request, { limit: ARGUMENTS_BYTES_MAX })
  try {
    for (;;) {
      const packet = await reader.read()
      if (packet?.kind === 'flush') break
      if (packet?.kind !== 'data')
        throw new ProtocolError('ERR_ARCHIVE', 'the arguments do not end with a flush packet')
      args.push(packet.payload.toString('utf8').replace(/^argument |\n$/g, ''))
    }
  } catch (error) {
    const why = error instanceof ProtocolError ? error.message : 'the request broke off'
    return refuse(client, await gate.refuse(client, wanted, 'protocol', why))
  }

  const session = await gate.open(client, wanted)
  if ('kind' in session) return refuse(client, session)
  const upstream = hostOf(client.repository)(targetOf(client, operation))
  try {
    const answer = await upstream.exchange(Readable.from([reader.raw()], { objectMode: false }), session.signal)
    const how = await relay(answer, client.response, session, { framed: true })
    if (how === 'stopped') return await stopped(client, session)
    void session.end({ result: 'ok' })
    return { status: 0, operation }
  } catch (error) {
    return await failed(client, session, error)
  } finally {
    upstream.close()
  }
}

/** Those that stand by themselves, so that what follows is the tree. */
const OPTION = /^(?:--(?:format|prefix|mtime)=.*|--verbose|--worktree-attributes|-v|-\d)$/s

/**
 * The full name of the ref that an archive is of; undefined when that cannot be told. A short name is none: which ref it
 * means depends on what others there are.
 */
function refOf(args: readonly string[]): string | undefined {
  const ref = args.find(arg => !OPTION.test(arg))?.replace(/:.*$/s, '')
  return ref !== undefined && checkRefname(ref) === undefined ? ref : undefined
}
