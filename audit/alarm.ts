/** A sleep that can be cut short. */
export interface Alarm {
  /** Until so many milliseconds have passed or the alarm rings; at once if it rang since the last sleep. */
  sleep(milliseconds: number): Promise<void>
  ring(): void
}

/** For loops that poll, and are told when polling is worth while. One sleeper at a time. */
export function createAlarm(): Alarm {
  let rang = false
  let awake = () => {}
  return {
    async sleep(milliseconds) {
      if (!rang) {
        await new Promise<void>(resolve => {
          const timer = setTimeout(resolve, milliseconds)
          awake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
      rang = false
    },
    ring() {
      rang = true
      awake()
    },
  }
}
