import { readFileSync } from 'node:fs'

/** The closing line of a test run, from vitest's JSON report. A run that executed no test has failed. */
interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[]
}

const [file = ''] = process.argv.slice(2)
const report = JSON.parse(readFileSync(file, 'utf8')) as Report
// A file that cannot be loaded fails without having a test that could.
const broken = report.testResults.filter(
  ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
)
const failed = report.numFailedTests + broken.length
const skipped = report.numPendingTests > 0 ? `, ${report.numPendingTests} skipped` : ''
process.stdout.write(`${report.numPassedTests} passed, ${failed} failed${skipped}\n`)
process.exit(failed === 0 && report.numPassedTests > 0 ? 0 : 1)
