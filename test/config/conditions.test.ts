import { describe, expect, test } from 'vitest'
import { type ConditionContext, compileCondition, compilePattern } from '../../config/conditions.ts'

const context: ConditionContext = {
  principal: 'dana@acme.example',
  person: 'dana',
  kind: 'person',
  groups: ['payments'],
  claims: { ref: 'refs/heads/main' },
  address: '10.1.2.3',
  action: 'update',
  repository: 'acme/payments',
  class: 'critical',
  refs: ['refs/heads/main'],
  paths: ['docs/a.md'],
  reason: 'fix PAY-1',
  ticket: 'PAY-1',
  window: 3600,
  now: Date.parse('2026-11-21T10:00:00Z'),
}

describe('a condition', () => {
  test.each([
    ['"payments" in groups', true],
    ['claims.ref == "refs/heads/dev"', false],
    ['refs.all(r, re2(r, "^refs/heads/"))', true],
    ['window <= 7200 && class == "critical"', true],
    ['in_network(address, "10.0.0.0/8")', true],
    ['now.getHours("Europe/Berlin") == 11', true],
    ['has(claims.actor) && claims.actor == "x"', false],
    ['paths.exists(p, p.startsWith("infra/"))', false],
  ])('%s is %s', (text, answer) => {
    expect(compileCondition(text).holds(context)).toBe(answer)
  })

  test('about a claim that is not there has no answer, which is never a yes', () => {
    expect(() => compileCondition('claims.actor != "mallory"').holds(context)).toThrow('actor')
  })

  test.each([
    ['a misspelt name', 'grups == ["x"]', 'grups'],
    ['a wrong type', 'groups == 1', 'overload'],
    ['no truth value', 'window', 'true or false'],
    ['a function that does not exist', 'shell("rm")', 'shell'],
    ['half a sentence', 'window >', 'token'],
  ])('is type-checked when it is loaded: %s', (_, text, message) => {
    expect(() => compileCondition(text)).toThrow(message)
  })

  test.each([
    ['the backtracking matches()', 'reason.matches("(a+)+$")', 're2(text, "pattern")'],
    ['a loop in a loop', 'refs.all(r, paths.all(p, p == r))', 'side by side'],
    ['texts that double', 'cel.bind(a, reason + reason, a == "")', 'bind'],
    ['a type check switched off', 'dyn(1) == 1', 'dyn'],
    ['a pattern from outside', 're2(reason, ticket)', 'write it out'],
    ['a bad pattern', 're2(reason, "(")', 'missing'],
    ['a bad network', 'in_network(address, "10.0.0.0/99")', '/99'],
    ['far too much text', `reason == "${'x'.repeat(3_000)}"`, '2000 characters'],
    ['far too many parts', Array(400).fill('window > 1').join(' && '), ''],
    ['far too deep', `${'('.repeat(200)}true${')'.repeat(200)}`, ''],
  ])('refuses %s (threat 57)', (_, text, message) => {
    expect(() => compileCondition(text)).toThrow(message)
  })
})

describe('a pattern', () => {
  test('that would take a backtracking engine years answers a long text', () => {
    expect(compilePattern('(a+)+$').matches(`${'a'.repeat(4_000)}b`)).toBe(false)
  })

  test('does not look at texts beyond its bound', () => {
    expect(compilePattern('a*').matches('a'.repeat(5_000))).toBe(false)
  })

  test('means the whole text or a part of it, as asked', () => {
    expect(compilePattern('PAY-[0-9]+').matches('see PAY-1')).toBe(false)
    expect(compilePattern('PAY-[0-9]+').finds('see PAY-1')).toBe(true)
  })
})
