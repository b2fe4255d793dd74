import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Stories start real servers, and two cores share them: one file a worker, the tests of a file one after the other.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    globalSetup: ['test/support/setup.ts'],
  },
})
