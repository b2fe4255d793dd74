import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, wholeNumber } from './command.ts'
import { CommandError, EXIT, json, say, table, when } from './say.ts'

interface Delivery {
  readonly id: string
  readonly event: string
  readonly thread: string
  readonly channel: string
  readonly recipient: string
  readonly at: string
  readonly attempts: number
  readonly fault?: string
}

/** `drawbridge notify list|retry|test` */
export function notifyCommand(): Command {
  return new Command('notify')
    .description('what people and programs are told')
    .addCommand(
      asking('list', 'notices that could not be delivered')
        .option('--state <state>', 'waiting, delivered or dead', 'dead')
        .option('--channel <name>')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { state: string; channel?: string; limit: number }) => {
          const { state, channel, limit } = options
          const path = `/notify/deliveries${query({ state, channel, limit })}`
          const { deliveries } = await gate(options).call<{ deliveries: Delivery[] }>('GET', path)
          if (options.json) return json(deliveries)
          table(
            ['ID', 'AT', 'EVENT', 'ABOUT', 'CHANNEL', 'TO', 'TRIED', 'FAULT'],
            deliveries.map(({ id, at, event, thread, channel, recipient, attempts, fault }) => {
              return [id, when(at), event, thread, channel, recipient, String(attempts), fault ?? '']
            }),
          )
        }),
    )
    .addCommand(
      asking('retry', 'send again what could not be delivered')
        .argument('[id]', 'one delivery')
        .option('--channel <name>', 'all dead deliveries of a channel')
        .action(async (id: string | undefined, options: Common & { channel?: string }) => {
          if ((id === undefined) === (options.channel === undefined)) {
            throw new CommandError(EXIT.usage, 'say which', 'give an id, or --channel NAME')
          }
          const which = id === undefined ? { channel: options.channel } : { id }
          const { again } = await gate(options).call<{ again: number }>('POST', '/notify/retry', which)
          if (options.json) json({ again })
          say(again === 1 ? 'one notice is on its way again' : `${again} notices are on their way again`)
        }),
    )
    .addCommand(
      asking('test', 'show on a channel what people would see')
        .argument('<channel>')
        .option('--to <address>', 'the address, on channels that have one')
        .action(async (channel: string, options: Common & { to?: string }) => {
          const path = `/notify/channels/${encodeURIComponent(channel)}/test`
          const body = options.to === undefined ? {} : { to: options.to }
          const sent = await gate(options).call<{ id: string }>('POST', path, body)
          if (options.json) json(sent)
          say(`${channel} has taken a test notice, ${sent.id}`)
        }),
    )
}
