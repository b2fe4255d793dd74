// Who may import whom. The floors, from the ground up: audit, config and grant; ca; the two planes, proxy and admin,
// which never see each other; cli on top. Inside proxy: fronts, then the gate, then fetch and push, then upstream and git.
const forbid = (name, from, to, comment) => ({
  name,
  severity: 'error',
  comment,
  from: { path: from },
  to: { path: to },
})

module.exports = {
  forbidden: [
    { name: 'no-circle', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    forbid(
      'git-is-pure',
      '^proxy/git/',
      '^(?!proxy/git/|node:|[a-z_]+$).*',
      'the codecs know bytes and nothing of ours',
    ),
    forbid(
      'planes-apart-1',
      '^proxy/',
      '^(admin|cli|deploy|bench|test)/',
      'the data plane never calls the control plane',
    ),
    forbid(
      'planes-apart-2',
      '^admin/',
      '^(proxy|cli|deploy|bench|test)/',
      'the control plane never calls the data plane',
    ),
    forbid(
      'ca-below',
      '^ca/',
      '^(proxy|admin|cli|deploy|bench|test|config|grant)/',
      'the authority stands below both planes',
    ),
    forbid(
      'audit-is-ground',
      '^audit/',
      '^(proxy|admin|cli|ca|config|grant|deploy|bench|test)/',
      'the ledger imports nothing above it',
    ),
    forbid(
      'grant-is-ground',
      '^grant/',
      '^(proxy|admin|cli|ca|config|audit|deploy|bench|test)/',
      'the meeting place imports nothing above it',
    ),
    forbid(
      'config-is-ground',
      '^config/',
      '^(proxy|admin|cli|ca|audit|deploy|bench|test)/',
      "the operator's word imports nothing above it (grant/ref patterns excepted)",
    ),
    forbid('console-http-only', '^admin/console/', '^(?!admin/console/).*\\.ts$', 'the console speaks HTTP only'),
    forbid(
      'cli-http-only',
      '^cli/(?!serve|offline)',
      '^(proxy|admin|grant)/|^audit/(?!follow|sentence)',
      'the CLI speaks HTTP only; serve starts a role by its main',
    ),
    forbid(
      'offline-asks-nobody',
      '^cli/offline',
      '^(proxy|admin|grant)/|^audit/(?!boundary|export|head|receipt|verify)',
      'what was handed out is checked without the gate, by the arithmetic that made it',
    ),
    forbid(
      'serve-mains-only',
      '^cli/serve',
      '^(proxy|admin|ca|grant|audit)/(?!main\\.ts$)',
      'serve starts a role by its main',
    ),
    forbid(
      'relay-below-gate',
      '^proxy/(fetch|push|ancestry|session)\\.ts$',
      '^proxy/(http|ssh|main)',
      'fetch and push do not know who carries the bytes',
    ),
    forbid('upstream-below', '^proxy/upstream/', '^proxy/(?!upstream/|git/)', 'the host side knows nothing of grants'),
    forbid(
      'tests-stay-out',
      '^(proxy|ca|grant|audit|admin|config|cli)/',
      '^(test|bench)/',
      'no product code depends on a test',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.tsx', '.mjs', '.js', '.json'] },
  },
}
