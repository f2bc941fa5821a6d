/**
 * A process that runs a graph writes no file and looks up no name. A library before the C library watches the look-ups,
 * and needs gcc.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const WATCH = `
#include <netdb.h>
#include <stdio.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  (void)service, (void)hints, (void)found;
  fprintf(stderr, "looks up %s\\n", name);
  return EAI_FAIL;
}`;

const runtime = (name: string): string =>
  fileURLToPath(new URL(`../../src/engine/runtime/${name}.js`, import.meta.url));
/** Loads a graph and runs it, as every process with ONNX Runtime does; the uploader starts with the first session. */
const script = `
  import { createEnvironment } from '${runtime('environment')}';
  import { cpuDevice } from '${runtime('device')}';
  import { saturates } from '${runtime('saturation')}';
  const environment = createEnvironment(1);
  saturates(environment, cpuDevice(environment));
  await new Promise((resolve) => setTimeout(resolve, 1000));`;

void t.test('ONNX Runtime writes nothing and looks up no name', (t) => {
  const home = t.testdir({ home: {}, tmp: {} });
  const env = {
    PATH: process.env.PATH,
    HOME: join(home, 'home'),
    TMPDIR: join(home, 'tmp'),
    LD_PRELOAD: watcher(t.testdirName),
  };
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env, encoding: 'utf8' });
  t.equal(run.status, 0, run.stderr);
  t.notMatch(run.stderr, 'looks up');
  const written = ['home', 'tmp'].flatMap((name) =>
    readdirSync(join(home, name), { recursive: true, encoding: 'utf8' }),
  );
  t.strictSame(written, []);
  const lookup = spawnSync(process.execPath, ['-e', "require('dns').lookup('example.com', () => {})"], {
    env,
    encoding: 'utf8',
  });
  if (env.LD_PRELOAD !== '') t.match(lookup.stderr, 'looks up example.com', 'the watcher sees look-ups');
  t.end();
});

/** Builds the watcher; empty without Linux or gcc. */
function watcher(folder: string): string {
  if (process.platform !== 'linux') return '';
  const build = join(folder, 'build');
  mkdirSync(build);
  writeFileSync(join(build, 'watch.c'), WATCH);
  const library = join(build, 'watch.so');
  try {
    execFileSync('gcc', ['-shared', '-fPIC', '-o', library, join(build, 'watch.c')], { stdio: 'ignore' });
    return library;
  } catch {
    return '';
  }
}
