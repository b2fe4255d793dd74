/** Who may tell the gate that access is to end, or what began: the section `hooks:` of the settings. */

interface Hook {
  readonly name: string
  readonly secret: string
}

/** A program that watches, such as a SIEM; signs as standardwebhooks has it. */
export interface RevokeHookSettings extends Hook {
  readonly type: 'revoke'
}

interface HostHook extends Hook {
  /** The name of the host under `upstreams`. */
  readonly upstream: string
  /** The host's number of an account → the principal it belongs to. Nobody else opens anything by what the host says. */
  readonly actors: ReadonlyMap<string, string>
}

/** A Git host that says which repositories moved. */
export interface PlainHostHookSettings extends HostHook {
  readonly type: 'bitbucket' | 'gitea'
}

/** A Git host that says who left as well. */
export interface MembersHostHookSettings extends HostHook {
  readonly type: 'github' | 'gitlab'
  /** The organization or top group whose former members are locked; without it nobody is. */
  readonly organization?: string | undefined
  /** The principal of somebody whose name at the host is `{login}`. */
  readonly principal: string
}

export type HostHookSettings = PlainHostHookSettings | MembersHostHookSettings
export type HookSettings = RevokeHookSettings | HostHookSettings
