/** The systemd unit against the server that it starts. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { environmentName, packageRoot, SERVE_OPTIONS } from '../../src/cli/options/config.js';
import { missing } from './helper.js';

const file = join(packageRoot, 'deploy', 'systemd', 'sortie.service');
const lines = readFileSync(file, 'utf8').split('\n');

/** All values of a setting, joined as systemd joins them. */
const valueOf = (name: string): string =>
  lines.flatMap((line) => (line.startsWith(`${name}=`) ? [line.slice(name.length + 1)] : [])).join(' ');

void t.test('systemd accepts the unit', { skip: missing('systemd-analyze') }, (t) => {
  t.match(spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' }), { status: 0, stderr: '' });
  t.end();
});

void t.test('the stop time covers the drain, and the signal is the one that drains', (t) => {
  t.ok(Number(valueOf('TimeoutStopSec')) > SERVE_OPTIONS.drainTimeout.default);
  t.equal(valueOf('KillSignal'), 'SIGTERM');
  t.end();
});

void t.test('flags and variables are those of the server', (t) => {
  const flags = [...valueOf('ExecStart').matchAll(/--([a-z-]+)/g)].map(([, flag = '']) => flag);
  const variables = [...valueOf('Environment').matchAll(/SORTIE_\w+/g)].map(([name]) => name);
  const known: string[] = Object.values(SERVE_OPTIONS).map(({ flag }) => flag);
  t.same([flags, variables], [['config'], ['SORTIE_CACHE_DIR']]);
  for (const flag of flags) t.ok(known.includes(flag), flag);
  for (const name of variables) t.ok(known.map(environmentName).includes(name), name);
  t.end();
});
