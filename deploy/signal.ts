/** What is done at a signal. */
export interface OnSignal {
  act(doing: () => Promise<void>): void
  /** Nothing is done any more; resolves when what is being done is. */
  ignore(): Promise<void>
}

/**
 * Acts on a signal, one time after the other; those that come while one waits for its turn are one with it, and those that
 * come before there is anything to do are kept. Call it at the start: unheard, such a signal ends the process.
 */
export function onSignal(signal: NodeJS.Signals): OnSignal {
  let act: (() => Promise<void>) | undefined
  let waits = false
  let turn = Promise.resolve()
  const queue = () => {
    turn = turn.then(async () => {
      waits = false
      await act?.()
    })
  }
  process.on(signal, () => {
    if (waits) return
    waits = true
    if (act) queue()
  })
  return {
    act: doing => {
      act = doing
      if (waits) queue()
    },
    ignore: () => {
      act = async () => {}
      return turn
    },
  }
}
