import type { Observation } from './messages.ts'
import type { Worker } from './pool.ts'

/** Shorter than whoever watches waits: one worker that hangs must not hide the others. */
const ANSWER_MILLISECONDS_MAX = 2_000

/** What the workers are asked about themselves. */
export interface Questions {
  /** One entry a worker; undefined for one that did not answer in time. */
  ask(workers: readonly Worker[]): Promise<readonly { worker: Worker; observation: Observation | undefined }[]>
  answered(observation: Observation): void
}

export function questions(): Questions {
  const open = new Map<number, (observation: Observation | undefined) => void>()
  let last = 0

  function askOne(worker: Worker): Promise<Observation | undefined> {
    const question = ++last
    return new Promise<Observation | undefined>(resolve => {
      const timer = setTimeout(() => resolve(undefined), ANSWER_MILLISECONDS_MAX)
      open.set(question, observation => {
        clearTimeout(timer)
        resolve(observation)
      })
      worker.send({ kind: 'observe', question })
    }).finally(() => open.delete(question))
  }

  return {
    ask: workers => Promise.all(workers.map(async worker => ({ worker, observation: await askOne(worker) }))),
    answered: observation => open.get(observation.question)?.(observation),
  }
}
