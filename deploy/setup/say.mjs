/** One line to the person at the terminal. */
export function say(line) {
  process.stderr.write(`drawbridge: ${line}\n`)
}

/** What is wrong and what to do about it, then the end. */
export function fail(line) {
  say(line)
  process.exit(1)
}
