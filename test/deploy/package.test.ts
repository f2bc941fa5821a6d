/** The files of the npm package. deploy/play-package.js installs and serves it. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';

interface Packed {
  readonly files: readonly { readonly path: string }[];
}

/** The list that npm packs, without the build before it. */
function packedFiles(): string[] {
  const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--json', '--silent'], {
    encoding: 'utf8',
    cwd: packageRoot,
  });
  const parsed = JSON.parse(stdout) as Packed[] | Record<string, Packed>;
  return Object.values(parsed).flatMap(({ files }) => files.map(({ path }) => path));
}

const files = packedFiles();

void t.test('the package holds the program and the playground, without model, sources and tests', (t) => {
  const wanted = ['dist/src/main.js', 'dist/src/engine/worker/process.js', 'deploy/systemd/sortie.service', 'LICENSE'];
  const pages = readdirSync(join(packageRoot, 'src', 'web')).map((name) => `src/web/${name}`);
  for (const name of [...wanted, ...pages]) t.ok(files.includes(name), name);
  t.same(
    files.filter((name) =>
      /^(models|test|training|dist\/(test|docs|bench\/(?!loadgen|remote)))\/|\.(ts|map|gz|onnx)$/.test(name),
    ),
    [],
  );
  t.end();
});

void t.test('from the package, serve without --model says in one sentence how to get one', (t) => {
  const folder = t.testdir({});
  for (const name of files) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(packageRoot, name), join(folder, name));
  }
  symlinkSync(join(packageRoot, 'node_modules'), join(folder, 'node_modules'));
  const serve = spawnSync(process.execPath, [join(folder, 'dist', 'src', 'main.js'), 'serve'], { encoding: 'utf8' });
  t.equal(serve.status, 2);
  t.match(
    serve.stderr,
    /^error: the npm package holds no model: --model must name one, such as --model ORG\/NAME of the Hugging Face Hub, .*\n$/,
  );
  t.end();
});

// The build of `npm start` in a fresh copy of the sources.

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
