import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  describeHours,
  isWithin,
  neverBoth,
  nextOpening,
  occurrences,
  readClock,
  readDays,
  weekly,
} from '../../../config/policy/hours.ts'

const at = (text: string) => Date.parse(text)
const iso = (time: number | undefined) => (time === undefined ? undefined : new Date(time).toISOString())
const office = weekly('Europe/Berlin', [
  { days: readDays('mon-fri')!, from: readClock('09:00')!, to: readClock('18:00')! },
])
const night = weekly('America/New_York', [
  { days: readDays('sat-sun')!, from: readClock('22:00')!, to: readClock('04:00')! },
])

describe('weekly hours', () => {
  test('follow the wall clock through summer and winter time', () => {
    // 09:00 in Berlin is 07:00 UTC in July and 08:00 UTC in January.
    expect(isWithin(office, at('2026-07-01T07:00:00Z'))).toBe(true)
    expect(isWithin(office, at('2026-07-01T06:59:59Z'))).toBe(false)
    expect(isWithin(office, at('2026-01-07T07:30:00Z'))).toBe(false)
    expect(isWithin(office, at('2026-01-07T08:00:00Z'))).toBe(true)
    expect(isWithin(office, at('2026-01-07T17:00:00Z'))).toBe(false)
    expect(isWithin(office, at('2026-01-10T12:00:00Z'))).toBe(false)
  })

  test('run past midnight into the next day, from Sunday into Monday too', () => {
    expect(isWithin(night, at('2026-06-08T03:00:00Z'))).toBe(true)
    expect(isWithin(night, at('2026-06-08T07:59:00Z'))).toBe(true)
    expect(isWithin(night, at('2026-06-08T08:00:00Z'))).toBe(false)
  })

  test('say when they open next', () => {
    expect(iso(nextOpening(office, at('2026-03-27T18:00:00Z')))).toBe('2026-03-30T07:00:00.000Z')
    expect(iso(nextOpening(office, at('2026-01-07T12:00:00Z')))).toBe('2026-01-08T08:00:00.000Z')
  })

  test('an hour the clock skips does not open', () => {
    // Berlin goes from 02:00 to 03:00 on 29 March 2026.
    const skipped = weekly('Europe/Berlin', [
      { days: readDays('sun')!, from: readClock('02:00')!, to: readClock('03:00')! },
    ])
    expect(occurrences(skipped, at('2026-03-28T00:00:00Z'), at('2026-03-30T00:00:00Z'), 10)).toEqual([])
  })

  test('an hour the clock repeats opens for both', () => {
    // 02:00 to 03:00 comes twice on 25 October 2026, from 00:00 to 02:00 UTC.
    const repeated = weekly('Europe/Berlin', [
      { days: readDays('sun')!, from: readClock('02:00')!, to: readClock('03:00')! },
    ])
    const found = occurrences(repeated, at('2026-10-24T12:00:00Z'), at('2026-10-26T00:00:00Z'), 10)
    expect(found.map(({ starts, expires }) => [iso(starts), iso(expires)])).toEqual([
      ['2026-10-25T00:00:00.000Z', '2026-10-25T02:00:00.000Z'],
    ])
  })

  test('occur in order, clipped to the time asked about, and at most so many', () => {
    const found = occurrences(office, at('2026-01-05T10:00:00Z'), at('2026-01-07T09:00:00Z'), 10)
    expect(found.map(({ starts, expires }) => [iso(starts), iso(expires)])).toEqual([
      ['2026-01-05T10:00:00.000Z', '2026-01-05T17:00:00.000Z'],
      ['2026-01-06T08:00:00.000Z', '2026-01-06T17:00:00.000Z'],
      ['2026-01-07T08:00:00.000Z', '2026-01-07T09:00:00.000Z'],
    ])
    expect(occurrences(office, at('2026-01-05T10:00:00Z'), at('2026-02-05T10:00:00Z'), 2)).toHaveLength(2)
  })

  test('hours that never meet are told from hours that do, as far as one clock goes', () => {
    const night = weekly('Europe/Berlin', [{ days: [4], from: 22 * 60, to: 6 * 60 }])
    expect(neverBoth(office, night)).toBe(true)
    expect(neverBoth(weekly('Europe/Berlin', [{ days: [5], from: 5 * 60, to: 7 * 60 }]), night)).toBe(false)
    expect(neverBoth({ ...office, zone: 'UTC' }, night)).toBe(false)
  })

  test('occurrences and the question "is it open now?" agree, in zones of every kind', () => {
    const zones = [
      'UTC',
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'America/Sao_Paulo',
    ]
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        fc.array(
          fc.record({ days: fc.uniqueArray(fc.nat(6), { minLength: 1 }), from: fc.nat(1439), to: fc.nat(1440) }),
          { minLength: 1, maxLength: 3 },
        ),
        fc.integer({ min: at('2024-01-01T00:00:00Z'), max: at('2027-01-01T00:00:00Z') }),
        fc.array(fc.nat(10 * 86_400_000), { minLength: 5, maxLength: 20 }),
        (zone, parts, from, ahead) => {
          const hours = weekly(zone, parts)
          const spans = occurrences(hours, from, from + 11 * 86_400_000, 1_000)
          for (const offset of ahead) {
            const now = from + offset
            expect(spans.some(span => span.starts <= now && now < span.expires)).toBe(isWithin(hours, now))
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  test('are said in one line', () => {
    expect(describeHours(office)).toBe('Mon–Fri 09:00–18:00 Europe/Berlin')
  })

  test.each(['monn', 'mon-tue-wed', '', 'fry', 'mon-'])('"%s" is no day', text => {
    expect(readDays(text)).toBeUndefined()
  })

  test.each(['9', '25:00', '09:60', '24:01', '9am', ''])('"%s" is no time of day', text => {
    expect(readClock(text)).toBeUndefined()
  })
})
