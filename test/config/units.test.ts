import fc from 'fast-check'
import { expect, test } from 'vitest'
import { nearMiss } from '../../config/nearmiss.ts'
import { readDuration, readSize, writeDuration } from '../../config/units.ts'

test('durations are read in short form and in words', () => {
  const forms = {
    '90s': 90_000,
    '20m': 1_200_000,
    '20 minutes': 1_200_000,
    '1 hour': 3_600_000,
    '2 Hours': 7_200_000,
    '1h30m': 5_400_000,
    '1 hour and 30 minutes': 5_400_000,
    '1 hour, 30 minutes': 5_400_000,
    '7 days': 604_800_000,
    '1.5h': 5_400_000,
    '250ms': 250,
    '2w': 1_209_600_000,
    ' 5 min ': 300_000,
  }
  for (const [text, milliseconds] of Object.entries(forms)) expect(readDuration(text), text).toBe(milliseconds)
})

test('what has no unit, an unknown unit, units out of order or twice is no duration', () => {
  for (const text of [
    '',
    '20',
    'm',
    '20 fortnights',
    '30m 1h',
    '1h 1h',
    '-5m',
    '1e3s',
    '5 m5',
    '1h30',
    '1h and',
    '9'.repeat(80),
    '99999999999999999999s',
    '١h',
  ]) {
    expect(readDuration(text), text).toBeUndefined()
  }
})

test('sizes are read in powers of 1024 and of 1000, one term only', () => {
  const forms = {
    '32MiB': 32 << 20,
    '32 MiB': 32 << 20,
    '1GiB': 1 << 30,
    '512k': 512 << 10,
    '500MB': 500_000_000,
    '10 bytes': 10,
    '1.5KiB': 1536,
  }
  for (const [text, bytes] of Object.entries(forms)) expect(readSize(text), text).toBe(bytes)
  for (const text of ['', '32', '32 Mbit', '1GiB 1KiB', '-1k']) expect(readSize(text), text).toBeUndefined()
})

test('a duration reads back as it was written', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 10 ** 12 }), n => readDuration(writeDuration(n)) === n))
})

test('a slip of the fingers finds the name that was meant, and nonsense finds none', () => {
  const names = ['listen', 'redis', 'postgres', 'upstreams', 'proxy_protocol', 'limits']
  expect(nearMiss('lsiten', names)).toBe('listen')
  expect(nearMiss('upstream', names)).toBe('upstreams')
  expect(nearMiss('proxyProtocol', names)).toBe('proxy_protocol')
  expect(nearMiss('postgresql', names)).toBe('postgres')
  expect(nearMiss('password', names)).toBeUndefined()
  expect(nearMiss('x'.repeat(100_000), names)).toBeUndefined()
})
