import { Argument, Command } from 'commander'
import { type Kind, kindsOf } from './candidates.ts'
import { data } from './say.ts'

/**
 * `drawbridge completion bash|zsh|fish`: to be sourced by the shell. Commands and options stand in the script; ids and
 * repositories are asked of the gate when they are wanted.
 */
export function completionCommand(program: Command): Command {
  return new Command('completion')
    .description('completion for a shell: source <(drawbridge completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: 'bash' | 'zsh' | 'fish') => data(SHELLS[shell](program.name(), words(program))))
}

interface Words {
  /** The commands so far: '', 'grant', 'grant issue'. */
  readonly path: string
  readonly next: readonly string[]
  /** Whether a command has to follow. */
  readonly group: boolean
  /** What its arguments may be, to be asked for. */
  readonly kinds: readonly Kind[]
}

function words(command: Command, path: readonly string[] = []): Words[] {
  const options = command.options.filter(option => !option.hidden).flatMap(option => option.long ?? [])
  const below = command
    .createHelp()
    .visibleCommands(command)
    .filter(sub => sub.name() !== 'help')
  const next = [...below.map(sub => sub.name()), ...options, '--help']
  const own = {
    path: path.join(' '),
    next,
    group: below.length > 0,
    kinds: [...new Set(command.registeredArguments.flatMap(kindsOf))],
  }
  return [own, ...below.flatMap(sub => words(sub, [...path, sub.name()]))]
}

const cases = (all: readonly Words[]) =>
  all
    .map(({ path, next, kinds }) => `    '${path}') words='${next.join(' ')}' kinds='${kinds.join(' ')}' ;;`)
    .join('\n')

/** Every command there is, so that what was typed is told from its arguments. */
const known = (all: readonly Words[]) => `|${all.map(({ path }) => path).join('|')}|`

/** What git's own completion calls for `git access`. */
const asGitCommand = (name: string) =>
  name.startsWith('git-') ? `\n_${name.replaceAll('-', '_')}() { _${name}; }` : ''

const SHELLS = {
  bash: (name: string, all: readonly Words[]) => `_${name}() {
  local path='' words='' kinds='' word from=1 now="\${COMP_WORDS[COMP_CWORD]}"
  [[ \${COMP_WORDS[0]} == git ]] && from=2
  for word in "\${COMP_WORDS[@]:from:COMP_CWORD-from}"; do
    [[ '${known(all)}' == *"|\${path:+$path }$word|"* ]] && path="\${path:+$path }$word"
  done
  case "$path" in
${cases(all)}
  esac
  [[ $kinds && $now != -* ]] && words="$words $(${name} candidates $kinds 2>/dev/null </dev/null)"
  COMPREPLY=($(compgen -W "$words" -- "$now"))
}
complete -o default -F _${name} ${name}${asGitCommand(name)}`,

  zsh: (name: string, all: readonly Words[]) => `#compdef ${name}
_${name}() {
  local chosen='' words='' kinds='' word
  for word in "\${(@)words_[2,CURRENT-1]:-}"; do
    [[ -n $word && '${known(all)}' == *"|\${chosen:+$chosen }$word|"* ]] && chosen="\${chosen:+$chosen }$word"
  done
  case "$chosen" in
${cases(all)}
  esac
  [[ -n $kinds && \${words_[CURRENT]} != -* ]] && words="$words $(${name} candidates \${=kinds} 2>/dev/null </dev/null)"
  compadd -- \${=words}
}
_${name}_outer() { local -a words_=("\${words[@]}"); _${name} }
compdef _${name}_outer ${name}`,

  fish: (name: string, all: readonly Words[]) => `complete -c ${name} -f
${all
  .map(({ path, next, group, kinds }) => {
    const so = path === '' ? name : `${name} ${path}`
    // Behind a group comes one of its commands, and then what that one takes.
    const chosen = `string match -qr -- '^${so}${group ? ' +[^ ]*$' : '( |$)'}' (commandline -pc)`
    const asked = kinds.length === 0 ? '' : ` (${name} candidates ${kinds.join(' ')} 2>/dev/null </dev/null)`
    return `complete -c ${name} -n "${chosen}" -a '${next.join(' ')}${asked}'`
  })
  .join('\n')}`,
}
