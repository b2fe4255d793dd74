import type { Record } from '../record.ts'
import type { Counted } from './counted.ts'
import type { Cell, Section } from './section.ts'
import type { Event, Listed, Tally } from './tally.ts'

/** What auditors ask, in the order of the catalogues: access given, used, approved, refused, gone around, and whether the record is whole. */
export function sections(tally: Tally): Section[] {
  return [
    access(tally),
    unused(tally),
    approvals(tally),
    unasked(tally),
    brokenGlass(tally),
    work(tally),
    refused(tally),
    observed(tally),
    turnedAway(tally),
    suspicious(tally),
    credentials(tally),
    rules(tally),
    faults(tally),
  ]
}

function access({ windows }: Tally): Section {
  const rows = windows.access
    .rows(({ uses }) => uses)
    .map(({ name, value }) => [...name, value.windows, value.unused, value.uses, value.last ?? 'never'])
  const astray = windows.astray > 0 ? `${windows.astray} uses by windows that were not followed one by one` : undefined
  return {
    title: 'Who had access to what, and who used it',
    evidence:
      'SOC 2 CC6.1, CC6.3 · ISO/IEC 27001 A.5.15, A.5.18, A.8.3, A.8.4 · SOX ITGC access to programs and data · HIPAA §164.312(b) · GDPR Art. 32',
    note: 'Nobody has standing access: each window was opened for one person, for a time. A use is an operation that began under it.',
    columns: ['Person', 'Repository', 'Windows', 'Never used', 'Uses', 'Last use'],
    rows,
    more: joined(
      others(windows.access, ({ windows }) => `${windows} windows`),
      astray,
    ),
  }
}

function unused({ windows }: Tally): Section {
  return {
    title: 'Access that was given and never used',
    evidence: 'SOC 2 CC6.3 (least privilege) · ISO/IEC 27001 A.5.18, A.8.2 · SOX ITGC review of access',
    note: 'Windows in which nothing began. A window that is still open may yet be used.',
    columns: ['Grant', 'Person', 'Repository', 'Actions', 'From', 'Until', 'Ended', 'Reason'],
    rows: windows.unused.map(({ grant, principal, repository, actions, starts, expires, ended, reason }) => [
      ...[grant, principal, repository, actions.join(' '), starts, expires],
      ended ?? 'open, or over by its time',
      reason,
    ]),
    more: windows.unusedMore > 0 ? `and ${windows.unusedMore} more` : undefined,
  }
}

function approvals({ votes }: Tally): Section {
  return {
    title: 'Who approved, and for whom',
    evidence: 'SOC 2 CC6.2, CC6.3 (segregation of duties) · ISO/IEC 27001 A.5.3, A.5.18 · SOX ITGC approval of access',
    note: 'Nobody approves for themselves; the gate does not count such a vote. Reviews of broken glass are among these.',
    columns: ['Approver', 'For', 'Approved', 'Denied'],
    rows: votes
      .rows(({ approved, denied }) => approved + denied)
      .map(({ name, value }) => [...name, value.approved, value.denied]),
    more: others(votes, ({ approved, denied }) => `${approved + denied} votes`),
  }
}

function unasked({ unasked }: Tally): Section {
  return events(unasked, {
    title: 'Access given without a request',
    evidence: 'SOC 2 CC6.2 · ISO/IEC 27001 A.5.15, A.8.2 · SOX ITGC privileged acts',
    note: 'Windows that an administrator opened alone. Each wants a word from whoever is named.',
    columns: ['Record', 'When', 'Administrator', 'Person', 'Repository', 'Actions', 'Until', 'Reason'],
    cells: record =>
      record.kind === 'grant.issued'
        ? [record.by, record.principal, record.repository, record.actions.join(' '), record.expires, record.reason]
        : [],
  })
}

function brokenGlass({ brokenGlass }: Tally): Section {
  return events(brokenGlass, {
    title: 'Emergency access: glass that was broken',
    evidence:
      'SOC 2 CC6.1, CC7.3 · ISO/IEC 27001 A.5.18, A.5.26 · SOX ITGC emergency changes · HIPAA §164.312(a)(2)(ii)',
    note: 'Access that began before anybody approved, under a rule that allows it and has it reviewed afterwards.',
    columns: ['Record', 'When', 'Request', 'Person', 'Repository', 'Actions', 'Rule'],
    cells: record =>
      record.kind === 'request.approved'
        ? [record.request, record.principal, record.repository, record.actions.join(' '), record.rule ?? '']
        : [],
  })
}

function work({ work }: Tally): Section {
  return {
    title: 'What was read and what was changed',
    evidence:
      'SOC 2 CC6.1, CC8.1 · ISO/IEC 27001 A.8.4, A.8.15 · SOX ITGC program changes · HIPAA §164.312(b) · GDPR Art. 30, 32',
    note: 'Operations by person and repository, as the Git host answered them. Bytes are of the packs and answers that passed.',
    columns: ['Person', 'Repository', 'Fetches', 'Pushes', 'Archives', 'Listings', 'Failed', 'Cut', 'Bytes'],
    rows: work
      .rows(({ pushes, fetches }) => pushes + fetches)
      .map(({ name, value: { fetches, pushes, archives, listings, broken, cut, bytes } }) => [
        ...name,
        ...[fetches, pushes, archives, listings, broken, cut, bytes],
      ]),
    more: others(work, ({ fetches, pushes }) => `${fetches} fetches and ${pushes} pushes`),
  }
}

function refused({ refused }: Tally): Section {
  return {
    title: 'What was refused',
    evidence: 'SOC 2 CC6.1, CC7.2 · ISO/IEC 27001 A.8.3, A.8.16 · HIPAA §164.312(b)',
    note: 'Operations that no window covered, or that the gate did not understand. None of them reached the Git host with a change.',
    columns: ['Why', 'Person', 'Repository', 'Times', 'Last'],
    rows: refused.rows(({ times }) => times).map(({ name, value }) => [...name, value.times, value.last]),
    more: others(refused, ({ times }) => `${times} refusals`),
  }
}

function observed({ observed }: Tally): Section {
  return {
    title: 'What would have been refused, and was only observed',
    evidence: 'SOC 2 CC6.1, CC8.1 · ISO/IEC 27001 A.8.3, A.5.15',
    note: 'Operations in repositories for which the policy says mode: observe. They were let through without a window that covers them.',
    columns: ['Why', 'Person', 'Repository', 'Times', 'Last'],
    rows: observed.rows(({ times }) => times).map(({ name, value }) => [...name, value.times, value.last]),
    more: others(observed, ({ times }) => `${times} operations`),
  }
}

function turnedAway({ turnedAway }: Tally): Section {
  return {
    title: 'Credentials that were turned away',
    evidence: 'SOC 2 CC6.1, CC6.6 · ISO/IEC 27001 A.5.17, A.8.5 · HIPAA §164.312(d)',
    note: 'Nobody was recognised; the address is all there is.',
    columns: ['Why', 'Address', 'Times', 'Last'],
    rows: turnedAway.rows(({ times }) => times).map(({ name, value }) => [...name, value.times, value.last]),
    more: others(turnedAway, ({ times }) => `${times} times`),
  }
}

function suspicious({ suspicious }: Tally): Section {
  return events(suspicious, {
    title: 'Ways around the gate, and unusual use',
    evidence: 'SOC 2 CC6.6, CC7.2 · ISO/IEC 27001 A.8.16, A.5.25 · HIPAA §164.308(a)(1)(ii)(D) · GDPR Art. 32, 33',
    note: 'What the ledger noticed by itself. A branch that moved with no push recorded was moved past the gate.',
    columns: ['Record', 'When', 'Kind', 'Person', 'Repository', 'What'],
    cells: record => [record.kind, text(record, 'principal'), text(record, 'repository'), text(record, 'reason')],
  })
}

function credentials({ credentials }: Tally): Section {
  return events(credentials, {
    title: 'Credentials and locks',
    evidence: 'SOC 2 CC6.1, CC6.2 · ISO/IEC 27001 A.5.16, A.5.17 · SOX ITGC joiners and leavers',
    note: 'Tokens, keys and certificates made and taken back; people locked out and let in.',
    columns: ['Record', 'When', 'What', 'By', 'Person', 'Until', 'Reason'],
    cells: record => [
      record.kind,
      text(record, 'by'),
      text(record, 'principal') || text(record, 'keyId'),
      text(record, 'expires'),
      text(record, 'reason'),
    ],
  })
}

function rules({ rules }: Tally): Section {
  return events(rules, {
    title: 'Changes of the rules',
    evidence: 'SOC 2 CC5.3, CC8.1 · ISO/IEC 27001 A.5.15, A.8.9, A.8.32 · SOX ITGC changes of configuration',
    note: 'Policies and settings that came into force or were refused, rotated authorities, and records taken out by retention.',
    columns: ['Record', 'When', 'What', 'By', 'Version', 'Reason'],
    cells: record => [
      record.kind,
      text(record, 'by'),
      text(record, 'version') || text(record, 'file'),
      text(record, 'reason'),
    ],
  })
}

function faults({ faults }: Tally): Section {
  return events(faults, {
    title: 'Whether the record is whole',
    evidence: 'SOC 2 CC7.2, CC7.3 · ISO/IEC 27001 A.8.15 · HIPAA §164.312(b), (c)(1) · GDPR Art. 30, 32(1)(b)',
    note: 'What the ledger says is missing. Nothing here means that no record was lost on its way; that none was changed since, verify shows.',
    columns: ['Record', 'When', 'What', 'Of', 'Run', 'First lost', 'Last lost'],
    cells: record =>
      record.kind === 'ledger.gap'
        ? [record.kind, record.proxy, record.boot, record.from, record.to]
        : [record.kind, text(record, 'operation'), '', '', ''],
  })
}

function events(
  { items, more }: Listed<Event>,
  section: Pick<Section, 'title' | 'evidence' | 'note' | 'columns'> & { readonly cells: (record: Record) => Cell[] },
): Section {
  const { cells, ...rest } = section
  const rows = items.map(({ seq, recorded, record }) => [seq, recorded, ...cells(record)])
  return { ...rest, rows, more: more > 0 ? `and ${more} more` : undefined }
}

function others<T>(of: Counted<T>, say: (value: T) => string): string | undefined {
  return of.others === undefined ? undefined : `and ${say(of.others)} in groups beyond these`
}

function joined(...parts: readonly (string | undefined)[]): string | undefined {
  const given = parts.filter(part => part !== undefined)
  return given.length === 0 ? undefined : given.join('; ')
}

function text(record: Record, name: string): string {
  const value: unknown = Reflect.get(record, name)
  return typeof value === 'string' ? value : ''
}
