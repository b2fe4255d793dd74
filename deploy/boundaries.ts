import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

/**
 * Who imports whom (.dependency-cruiser.cjs), with the modules counted: a tool that cannot read TypeScript finds no module,
 * hence no violation, and says that all is well.
 */
const FOLDERS = ['proxy', 'ca', 'grant', 'audit', 'admin', 'config', 'cli', 'deploy', 'bench', 'test']

interface Report {
  readonly summary: {
    readonly totalCruised: number
    readonly violations: readonly {
      readonly from: string
      readonly to: string
      readonly rule: { readonly name: string }
    }[]
  }
  readonly modules: readonly { readonly source: string; readonly dependencies: readonly unknown[] }[]
}

const folders = FOLDERS.filter(folder => globSync(`${folder}/**/*.ts`).length > 0)
const cruised = spawnSync('depcruise', ['--config', '.dependency-cruiser.cjs', '--output-type', 'json', ...folders], {
  encoding: 'utf8',
  maxBuffer: 256 << 20,
})
if (!cruised.stdout) fail(`dependency-cruiser did not run: ${cruised.stderr || cruised.error?.message}`)
const { modules, summary } = JSON.parse(cruised.stdout) as Report

for (const { from, to, rule } of summary.violations) process.stderr.write(`${rule.name}: ${from} imports ${to}\n`)
if (summary.violations.length > 0) fail(`${summary.violations.length} imports that are not allowed`)

const seen = new Set(modules.filter(({ dependencies }) => dependencies.length > 0).map(({ source }) => source))
const written = folders.flatMap(folder => globSync(`${folder}/**/*.ts`)).filter(file => !file.includes('node_modules'))
const unread = written.filter(file => !modules.some(({ source }) => source === file))
if (seen.size === 0 || unread.length > 0)
  fail(`${unread.length} of ${written.length} modules were not read: ${unread.slice(0, 5).join(', ')}`)
process.stdout.write(`boundaries: ${written.length} modules read, no import that is not allowed\n`)

function fail(message: string): never {
  process.stderr.write(`boundaries: ${message}\n`)
  process.exit(1)
}
