import { Argument, Command } from 'commander'
import { data } from './say.ts'

/** `drawbridge completion bash|zsh|fish`: to be sourced by the shell. */
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
}

function words(command: Command, path: readonly string[] = []): Words[] {
  const options = command.options.filter(option => !option.hidden).flatMap(option => option.long ?? [])
  const next = [...command.commands.map(sub => sub.name()), ...options, '--help']
  return [{ path: path.join(' '), next }, ...command.commands.flatMap(sub => words(sub, [...path, sub.name()]))]
}

const cases = (all: readonly Words[]) =>
  all.map(({ path, next }) => `    '${path}') words='${next.join(' ')}' ;;`).join('\n')

/** What git's own completion calls for `git access`. */
const asGitCommand = (name: string) =>
  name.startsWith('git-') ? `\n_${name.replaceAll('-', '_')}() { _${name}; }` : ''

const SHELLS = {
  bash: (name: string, all: readonly Words[]) => `_${name}() {
  local path='' words='' word from=1
  [[ \${COMP_WORDS[0]} == git ]] && from=2
  for word in "\${COMP_WORDS[@]:from:COMP_CWORD-from}"; do
    [[ $word == -* ]] && break
    path="\${path:+$path }$word"
  done
  case "$path" in
${cases(all)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${name} ${name}${asGitCommand(name)}`,

  zsh: (name: string, all: readonly Words[]) => `#compdef ${name}
_${name}() {
  local chosen='' words='' word
  for word in "\${(@)words_[2,CURRENT-1]:-}"; do
    [[ $word == -* || -z $word ]] && break
    chosen="\${chosen:+$chosen }$word"
  done
  case "$chosen" in
${cases(all)}
  esac
  compadd -- \${=words}
}
_${name}_outer() { local -a words_=("\${words[@]}"); _${name} }
compdef _${name}_outer ${name}`,

  fish: (name: string, all: readonly Words[]) => `complete -c ${name} -f
${all
  .map(({ path, next }) => {
    const chosen = path === '' ? '__fish_use_subcommand' : `string match -q -- '${name} ${path}*' (commandline -pc)`
    return `complete -c ${name} -n "${chosen}" -a '${next.join(' ')}'`
  })
  .join('\n')}`,
}
