/** A process that runs a graph writes no file. Telemetry writes its database at the first session, and uploads it later. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const runtime = (name: string): string =>
  fileURLToPath(new URL(`../../src/engine/runtime/${name}.js`, import.meta.url));
/** Loads a graph and runs it, as every process with ONNX Runtime does. */
const script = `
  import { createEnvironment } from '${runtime('environment')}';
  import { cpuDevice } from '${runtime('device')}';
  import { saturates } from '${runtime('saturation')}';
  const environment = createEnvironment(1);
  saturates(environment, cpuDevice(environment));`;

void t.test('ONNX Runtime writes nothing to the home folder and to that of temporary files', (t) => {
  const folder = t.testdir({ home: {}, tmp: {} });
  const env = { PATH: process.env.PATH, HOME: join(folder, 'home'), TMPDIR: join(folder, 'tmp') };
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env, encoding: 'utf8' });
  t.equal(run.status, 0, run.stderr);
  t.strictSame(readdirSync(folder, { recursive: true }).sort(), ['home', 'tmp']);
  t.end();
});
