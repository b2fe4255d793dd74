import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

// docs/threats.md names a test for each attack; that its links lead somewhere is held with all links.

const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8')
const PAGE = read('docs/threats.md')
const rows = PAGE.split('\n').filter(
  row => row.startsWith('| ') && !row.startsWith('| tried') && !row.startsWith('| what'),
)

test('every attack has a defence and a test', () => {
  expect(rows.length).toBeGreaterThan(30)
  for (const row of rows) {
    const [, tried, defence, tests] = row.split(/(?<!\\)\|/)
    expect(
      [tried, defence].map(cell => cell!.trim() !== ''),
      row,
    ).toEqual([true, true])
    expect(tests, row).toMatch(/\]\(\.\.\/test\/[^)]+\.test\.ts\)/)
  }
})

test('every test file that tells of attacks is on the page', () => {
  const telling = ['test/story', 'test/proxy/http', 'test/proxy/ssh'].flatMap(folder =>
    readdirSync(fileURLToPath(new URL(`../../${folder}`, import.meta.url)))
      .filter(name =>
        /^(?:attack|threats|push-threats|reads|crossing|slow|secrets|cut|kill|drain)\.test\.ts$/.test(name),
      )
      .map(name => `${folder}/${name}`),
  )
  expect(telling.length).toBeGreaterThan(9)
  expect(telling.filter(path => !PAGE.includes(`(../${path})`))).toEqual([])
})
