/** The policy of the trial: somebody else says yes, for at most four hours. Written once, and the newcomer's to change. */
export const TRIAL_POLICY = `# Who may ask for which window, and who approves it. Everything it can say: docs/policy.md
version: 1

groups:
  leads: [bob]

requests:
  - name: work
    trigger: [clone, push, delete]
    repositories: demo/*
    approvers: leads
    reason: true
    window: { longest: 4h, default: 1h }
    timeout: 8 hours
`
