import type { FastifyInstance } from 'fastify'
import { type CliFile, makeCliFile } from '../clifile.ts'
import { Problem } from './problem.ts'

const NAME = 'git-access.mjs'

/** The CLI for whoever wants it, as one file with its checksum; made once, when it is first asked for. */
export async function cliFiles(app: FastifyInstance) {
  let made: Promise<CliFile> | undefined
  const file = async () => {
    made ??= makeCliFile()
    return await made.catch((cause: unknown) => {
      app.log.error({ err: cause }, 'the file of the CLI')
      throw new Problem(404, 'no-cli', 'this gate has no CLI to hand out', 'install it as its operator says')
    })
  }
  app.get(`/cli/${NAME}`, { schema: { hide: true } }, async (_, reply) => {
    return reply
      .type('text/javascript')
      .header('cache-control', 'no-cache')
      .send((await file()).content)
  })
  // As sha256sum writes and reads it.
  app.get(`/cli/${NAME}.sha256`, { schema: { hide: true } }, async (_, reply) => {
    return reply
      .type('text/plain')
      .header('cache-control', 'no-cache')
      .send(`${(await file()).sha256}  ${NAME}\n`)
  })
}
