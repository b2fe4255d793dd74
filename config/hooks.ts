/** Who may tell the gate that access is to end: the section `hooks:` of the settings. */

interface Hook {
  readonly name: string
  readonly secret: string
}

/** A program that watches, such as a SIEM; signs as standardwebhooks has it. */
export interface RevokeHookSettings extends Hook {
  readonly type: 'revoke'
}

/** A Git host that says who left and which repositories moved. */
export interface HostHookSettings extends Hook {
  readonly type: 'github' | 'gitlab'
  /** The name of the host under `upstreams`. */
  readonly upstream: string
  /** The organization or top group whose former members are locked; without it nobody is. */
  readonly organization?: string | undefined
  /** The principal of somebody whose name at the host is `{login}`. */
  readonly principal: string
}

export type HookSettings = RevokeHookSettings | HostHookSettings
