/**
 * Runs the test files that are named, or all, two processes at a time: `tap` runs this file, and this file runs the
 * others. A name is a path from here without `.test.js`. Each process first imports the module that SORTIE_TEST_IMPORT
 * names.
 *
 * tap's runner loads a recorder of modules into each process that a test starts. The recorder serves coverage, and it
 * costs a second of processor time per process. A file that starts here runs without it.
 */
import { readdirSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join, relative } from 'node:path';
import t from 'tap';
import { EMBEDDED_MODEL, packageRoot } from '../src/cli/options/config.js';
import { tinyModel } from './deploy/helper.js';
import { inflateModel } from './inflated-model.js';

/**
 * The longest files come first, so that both cores are busy until the end. Files that wait for timeouts alternate with
 * files that compute.
 */
const FIRST = [
  ...['deploy/envoy', 'deploy/process', 'conformance/a', 'chaos/sigterm', 'http/', 'web', 'engine'],
  ...['chaos', 'deploy', 'conformance', 'serve', 'convert', 'scheduler', 'cli'],
];

/**
 * Folders whose files share a process: a process of its own costs a file up to two seconds for its imports. Files that
 * measure or change their process have one of their own, and so have engines.
 */
const TOGETHER =
  /^(api|bench|conformance|convert|cost|engine|engine-client|http|scheduler|simulator|telemetry|text|upstream|util)\//;
const ALONE = [
  /^engine-client\/client/,
  /^telemetry\/(loop-lag|tracing-grpc)/,
  /^upstream\/(no-local|observed)/,
  /^http\/(heap|long-texts)/,
  /^convert\/architectures\./,
  /^conformance\/(sampling|statuses)/,
  /^engine\/(calibration|client|execution|slots|speculation)\//,
  /^engine\/\w+\/(core|core-limits|dry|grammars|grammars-lost|sharing|thread|tools)\./,
];
const AT_MOST = 14;
/** Time-out of a process and of its tests. It bounds a hang, and leaves time to a machine that is busy with other work. */
const MOST_MS = 600_000;

function rank(name: string): number {
  const index = FIRST.findIndex((prefix) => name.startsWith(prefix));
  return index < 0 ? FIRST.length : index;
}

const folder = join(packageRoot, 'dist', 'test');
const all = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.js'));
const named = process.argv.slice(2).map((name) => `${name}.test.js`);
const names = (named.length > 0 ? named : all).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));

/** The files of each process. */
const groups: { readonly folder: string | undefined; readonly files: string[] }[] = [];
for (const name of names) {
  const file = relative(packageRoot, join(folder, name));
  const shared = ALONE.some((pattern) => pattern.test(name)) ? undefined : TOGETHER.exec(name)?.[1];
  const group = groups.findLast((each) => each.folder === shared);
  if (shared !== undefined && group !== undefined && group.files.length < AT_MOST) group.files.push(file);
  else groups.push({ folder: shared, files: [file] });
}

const model = join(folder, 'inflated-model');
if (process.env.SORTIE_TEST_MODEL === undefined) await inflateModel(EMBEDDED_MODEL, model);
/** Of a run of all files: named ones may run beside it. */
const made = named.length === 0 ? await makeOnce(join(folder, 'made')) : {};
const env = {
  SORTIE_TEST_MODEL: model,
  ...made,
  ...process.env,
  TAP_TIMEOUT: String(MOST_MS / 1000 - 10),
};

const { SORTIE_TEST_IMPORT: module } = process.env;
const imports = module === undefined ? [] : ['--import', module];

/**
 * Makes a folder for the costs that the first engine on a model measures for all, and the tiny model, which two dozen
 * files would convert.
 * @returns the variables that name them
 */
async function makeOnce(dir: string): Promise<Readonly<Record<string, string>>> {
  await rm(dir, { recursive: true, force: true });
  const costs = join(dir, 'costs');
  const tiny = join(dir, 'tiny');
  await mkdir(costs, { recursive: true });
  for (const context of [256, 4096]) tinyModel(join(tiny, String(context)), context);
  return { SORTIE_TEST_COSTS: costs, SORTIE_TEST_TINY: tiny };
}

/** More processes than this want each core: limits of time fail for want of it. */
const BUSY = 2;

/** Says of files that failed whether other work held the cores meanwhile. */
function explain(name: string, isOk: boolean): void {
  const load = (loadavg()[0] ?? 0) / availableParallelism();
  if (isOk || load <= BUSY) return;
  console.error(`# ${name}: failed while ${load.toFixed(1)} processes wanted each core; lack of time may be the cause`);
}

t.setTimeout(0);
// One more than the cores that CI has: some files wait for processes most of their time.
t.jobs = 3;
for (const { folder: shared, files } of groups) {
  const [first = ''] = files;
  const name = files.length > 1 ? `${files.length} files of ${shared}` : first;
  const file = files.length > 1 ? relative(packageRoot, join(folder, 'together.js')) : first;
  // tap hands its recorder on in NODE_OPTIONS.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--enable-source-maps', ...imports, file];
  const options = { cwd: packageRoot, env: { ...env, SORTIE_TEST_FILES: files.join(' ') } };
  void t.spawn('env', args, { name, ...options, timeout: MOST_MS, buffered: true }).then((results) => {
    explain(name, results?.ok === true);
  });
}
