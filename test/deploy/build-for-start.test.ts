/** The build of `npm start` in a fresh copy of the sources. */
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';

void t.test('npm start builds a fresh clone, then only what changed, and stops at a syntax error', async (t) => {
  const root = t.testdir({});
  // A part of the sources shows it in a quarter of the time.
  for (const name of [
    'src/util',
    'src/engine/scheduler',
    'src/cli/cli.ts',
    'bench/remote',
    'scripts',
    'package.json',
    'tsconfig.json',
  ])
    cpSync(join(packageRoot, name), join(root, name), { recursive: true });
  symlinkSync(join(packageRoot, 'node_modules'), join(root, 'node_modules'));
  const build = () => spawnSync(process.execPath, [join(root, 'scripts', 'build-for-start.js')], { encoding: 'utf8' });
  const built = (name: string) => readFileSync(join(root, 'dist', 'src', name), 'utf8');

  const first = build();
  t.equal(first.status, 0, first.stderr);
  t.match(first.stderr, /^building \d{2,3} files \.\.\.\n$/);
  t.equal(
    built('cli/cli.js'),
    readFileSync(join(packageRoot, 'dist', 'src', 'cli', 'cli.js'), 'utf8'),
    "equal to tsc's output",
  );
  t.match(build(), { status: 0, stderr: '' });

  const file = join(root, 'src', 'util', 'quoted.ts');
  // A busy machine takes many seconds from a write to the next build.
  const write = (text: string, hours: number): void => {
    const at = new Date(Date.now() + hours * 3_600_000);
    writeFileSync(file, text);
    utimesSync(file, at, at);
  };
  write('export const text: string = "changed";\n', 1);
  t.match(build(), { status: 0, stderr: 'building 1 file ...\n' });
  t.match(built('util/quoted.js'), 'export const text = "changed";');

  write('export const = ;\n', 2);
  const broken = build();
  t.equal(broken.status, 1);
  t.match(broken.stderr, /src\/util\/quoted\.ts\(1,14\): error TS1134/);
});
