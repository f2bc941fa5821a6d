/** The completion scripts, in the shells themselves. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { SHELLS } from '../../src/cli/completion.js';
import { main } from '../deploy/helper.js';

const isMissing = (shell: string): string | false =>
  spawnSync(shell, ['-c', 'true']).status !== 0 && `${shell} is missing`;

const folder = t.testdir({ models: { one: {} }, 'notes.txt': '' });
const scripts = SHELLS.map((shell) => {
  const { stdout, status } = spawnSync(process.execPath, [main, 'completion', shell], { encoding: 'utf8' });
  t.equal(status, 0);
  const file = join(folder, `script.${shell}`);
  writeFileSync(file, stdout);
  return [shell, file] as const;
});
const { bash, zsh, fish } = Object.fromEntries(scripts) as Record<(typeof SHELLS)[number], string>;

/** Lines before the cursor, and the words that a shell offers for the last one. */
const CASES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['sortie sim', ['simulate']],
  ['sortie serve --log-f', ['--log-format']],
  ['sortie serve --device ', ['cpu', 'cuda', 'webgpu']],
  ['sortie serve --log-prompts o', ['off', 'on']],
  ['sortie simulate --limits un', ['unstated']],
  ['sortie serve --model mod', ['models']],
  ['sortie inspect mod', ['models']],
  ['sortie serve --api-key-file not', ['notes.txt']],
  ['sortie convert not', ['notes.txt']],
  ['sortie serve --port ', []],
  ['sortie completion z', ['zsh']],
];

void t.test('bash', { skip: isMissing('bash') }, (t) => {
  const words = (line: string): string[] => line.replaceAll('=', ' = ').split(' ');
  const ask = (line: string): string[] => {
    const script = `source ${bash}; compopt() { :; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sortie; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout } = spawnSync('bash', ['-c', script, 'bash', ...words(line)], { encoding: 'utf8', cwd: folder });
    return stdout.split('\n').filter(Boolean).sort();
  };
  for (const [line, offered] of CASES) t.same(ask(line), offered, line);
  t.same(ask('sortie serve --device=cu'), ['cuda'], 'a value behind =');
  t.same(ask('sortie serve --metrics-prefix=v'), ['vllm:']);
  t.end();
});

void t.test('fish', { skip: isMissing('fish') }, (t) => {
  for (const [line, offered] of CASES) {
    const script = `source ${fish}; complete -C "${line}"`;
    const { stdout } = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8', cwd: folder });
    const names = stdout.split('\n').map((each) => each.split('\t')[0]?.replace(/\/$/, '') ?? '');
    t.same(names.filter(Boolean).sort(), offered, line);
  }
  t.end();
});

void t.test('zsh reads its script', { skip: isMissing('zsh') }, (t) => {
  t.match(spawnSync('zsh', ['-n', zsh], { encoding: 'utf8' }), { status: 0, stderr: '' });
  t.end();
});

void t.test('an unknown shell is named with the known ones', (t) => {
  const { status, stderr } = spawnSync(process.execPath, [main, 'completion', 'tcsh'], { encoding: 'utf8' });
  t.equal(status, 2);
  t.match(stderr, /'tcsh' is invalid .* Allowed choices are bash, zsh, fish/);
  t.end();
});
