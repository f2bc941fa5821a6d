/** The files of the npm package. deploy/play-package.js installs and serves it. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
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
