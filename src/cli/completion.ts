/**
 * Completion scripts for bash, zsh and fish, written from the commands and options of the command line. A script holds
 * all words: a completion that asks the program costs a start of Node.js at each press of Tab.
 */
import type { Argument, Command, Option } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The values that a shell offers: words, names in the file system, or none. */
type Values = readonly string[] | 'files' | 'folders' | null;

interface Flag {
  readonly name: string;
  readonly help: string;
  /** Null for a flag without a value. */
  readonly value: { readonly name: string; readonly isOptional: boolean; readonly values: Values } | null;
}

interface Entry {
  readonly name: string;
  readonly help: string;
  readonly flags: readonly Flag[];
  /** Values of the first argument; null without one. */
  readonly argument: { readonly name: string; readonly values: Values } | null;
}

function valuesOf(placeholder: string, choices: readonly string[] | undefined): Values {
  if (choices !== undefined) return choices;
  if (placeholder.includes('|')) return placeholder.split('|');
  if (/^dir$/i.test(placeholder)) return 'folders';
  return /^(file|model|source)$/i.test(placeholder) ? 'files' : null;
}

function flagOf({ long, flags, description, required, optional, argChoices }: Option): Flag[] {
  if (long == null) return [];
  const [, placeholder = ''] = /[<[](.+)[>\]]/.exec(flags) ?? [];
  const value = { name: placeholder, isOptional: optional, values: valuesOf(placeholder, argChoices) };
  // The default and the variable stay in --help.
  const help = description.replace(/ \(default: .*$/, '');
  return [{ name: long, help, value: required || optional ? value : null }];
}

function argumentOf(argument: Argument | undefined): Entry['argument'] {
  if (argument === undefined) return null;
  return { name: argument.name(), values: valuesOf(argument.name(), argument.argChoices) };
}

function entriesOf(root: Command): Entry[] {
  return root.commands.map((command) => ({
    name: command.name(),
    help: command.description(),
    flags: [...command.options.flatMap(flagOf), { name: '--help', help: 'display help for command', value: null }],
    argument: argumentOf(command.registeredArguments[0]),
  }));
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

function bashReply(values: Values): string {
  if (values === null) return 'return';
  if (values === 'folders') return 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return';
  if (values === 'files') return 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return';
  return `mapfile -t COMPREPLY < <(compgen -W ${quoted(values.join(' '))} -- "$cur"); return`;
}

function bash(entries: readonly Entry[]): string {
  const names = entries.map(({ name }) => name).join(' ');
  const values = entries.flatMap(({ name, flags }) =>
    flags.flatMap((flag) =>
      flag.value === null ? [] : [`      ${quoted(`${name} ${flag.name}`)}) ${bashReply(flag.value.values)} ;;`],
    ),
  );
  const flags = entries.map(({ name, flags }) => `      ${name}) ${bashReply(flags.map((flag) => flag.name))} ;;`);
  const first = entries.flatMap(({ name, argument }) =>
    argument === null ? [] : [`    ${name}) ${bashReply(argument.values)} ;;`],
  );
  return `# bash completion of sortie: source <(sortie completion bash)
_sortie() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]}
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then ${bashReply([...entries.map(({ name }) => name), '--help', '--version'])}; fi
  # bash splits --flag=value into three words.
  if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD - 2]}; fi
  if [[ $cur != -* ]]; then
    case "$command $prev" in
${values.join('\n')}
      'help '*) ${bashReply(names.split(' '))} ;;
    esac
  else
    case $command in
${flags.join('\n')}
    esac
  fi
  case $command in
${first.join('\n')}
  esac
}
complete -F _sortie sortie
`;
}

/** Text inside a specification of zsh's _arguments. */
const zshText = (text: string): string => text.replaceAll(/[\\:[\]]/g, '\\$&');

function zshValues(name: string, values: Values): string {
  const action = values === null ? ' ' : values === 'files' ? '_files' : values === 'folders' ? '_files -/' : null;
  return `${zshText(name)}:${action ?? `(${(values as readonly string[]).map(zshText).join(' ')})`}`;
}

function zshFlag({ name, help, value }: Flag): string {
  if (value === null) return quoted(`${name}[${zshText(help)}]`);
  const colons = value.isOptional ? '::' : ':';
  return quoted(`${name}=[${zshText(help)}]${colons}${zshValues(value.name, value.values)}`);
}

function zsh(entries: readonly Entry[]): string {
  const commands = entries.map(({ name, help }) => `    ${quoted(`${name}:${zshText(help)}`)}`);
  const cases = entries.map(({ name, flags, argument }) => {
    const first = argument === null ? [] : [quoted(`1:${zshValues(argument.name, argument.values)}`)];
    return `    ${name}) _arguments ${[...flags.map(zshFlag), ...first].join(' \\\n      ')} ;;`;
  });
  return `#compdef sortie
# zsh completion of sortie: source <(sortie completion zsh), or a file _sortie in a folder of $fpath
_sortie() {
  local -a commands=(
${commands.join('\n')}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _sortie ]]; then _sortie "$@"; else compdef _sortie sortie; fi
`;
}

const fishText = (text: string): string => `'${text.replaceAll(/[\\']/g, '\\$&')}'`;

function fishValues(values: Values): string {
  if (values === null) return '-x';
  if (values === 'files') return '-r -F';
  return values === 'folders' ? "-x -a '(__fish_complete_directories)'" : `-x -a ${fishText(values.join(' '))}`;
}

function fish(entries: readonly Entry[]): string {
  const lines = entries.flatMap(({ name, help, flags, argument }) => {
    const seen = `complete -c sortie -n ${fishText(`__fish_seen_subcommand_from ${name}`)}`;
    const first = argument?.values == null ? [] : [`${seen} ${fishValues(argument.values).replace(/^-(x|r) /, '')}`];
    return [
      `complete -c sortie -n __fish_use_subcommand -a ${name} -d ${fishText(help)}`,
      ...flags.map((flag) => {
        const value = flag.value === null ? '' : ` ${fishValues(flag.value.values)}`;
        return `${seen} -l ${flag.name.slice(2)}${value} -d ${fishText(flag.help)}`;
      }),
      ...first,
    ];
  });
  return `# fish completion of sortie: sortie completion fish > ~/.config/fish/completions/sortie.fish
complete -c sortie -f
${lines.join('\n')}
`;
}

const WRITERS = { bash, zsh, fish } as const satisfies Record<Shell, (entries: readonly Entry[]) => string>;

/** @returns the script that a shell sources */
export function completionScript(root: Command, shell: Shell): string {
  return WRITERS[shell](entriesOf(root));
}
