/** Who is on call by a schedule kept elsewhere: the section `on_call:` of the settings. */
export interface OnCallSettings {
  readonly type: 'pagerduty' | 'opsgenie'
  /** What the policy calls it. */
  readonly name: string
  readonly token: string
  /** The schedule's id there. */
  readonly schedule: string
  /** Of the API, with a slash at its end. */
  readonly api: URL
}
