/**
 * Runs test files, some processes at a time: the core files, those that are named, or with `--rest` what the core leaves
 * out. A name is a path from here, with or without its ending; a folder names its files. Each process first imports the
 * module that SORTIE_TEST_IMPORT names.
 *
 * A line says how each process ended, and the last lines say which tests failed or were skipped. `--tap` writes the
 * report in TAP instead, for CI.
 */
import { createWriteStream, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import t from 'tap';
import { EMBEDDED_MODEL, packageRoot } from '../src/cli/options/config.js';
import { tinyModel } from './deploy/helper.js';
import { inflateModel } from './inflated-model.js';

/** Whole servers, programs of others, the embedded model, and waits by the clock. */
const REST = [
  /^(chaos|conformance|cuda|deploy|loops|webgpu)\//,
  /^(cli|config-file|docs-programs|serve)\./,
  /^(cli\/pull|web\/(net|playground)|loadgen\/bench|text\/encoding)/,
  /^bench\/(everyday|quality)/,
  /^convert\/(published|architectures|loops|prompt-exit|smoothing\/head)\./,
  /^engine\/(execution\/golden|grammar\/grammars-lost|landing\/landing)\./,
  /^engine-client\/client/,
  /^http\/(heap|long-texts|memory|lifetime)/,
  /^upstream\/(no-local|workers)\./,
];
/** Properties of random cases: the core runs a fifth of the cases, `--rest` runs all. */
const PROPERTIES = /^scheduler\/(bounded-planning|ledger|kv\/slot-table|properties)\./;

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
  /^upstream\/(no-local|observed|workers)/,
  /^http\/(heap|long-texts)/,
  /^convert\/architectures\./,
  /^engine\/(calibration|execution|speculation)\//,
  /^engine\/\w+\/(core|core-limits|grammars|grammars-lost|sharing)\./,
];
const AT_MOST = 14;
/** Time-out of a process and of its tests. It bounds a hang, and leaves time to a machine that is busy with other work. */
const MOST_MS = 600_000;
const REPORT = 'dist/test/report.tap';

function rank(name: string): number {
  const index = FIRST.findIndex((prefix) => name.startsWith(prefix));
  return index < 0 ? FIRST.length : index;
}

const folder = join(packageRoot, 'dist', 'test');
/** Of the sources: the build may still hold a file whose source has left. */
const all = readdirSync(join(packageRoot, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.replace(/ts$/, 'js'));
const { values: options, positionals: asked } = parseArgs({
  options: { rest: { type: 'boolean', default: false }, tap: { type: 'boolean', default: false } },
  allowPositionals: true,
});

/** The files that an argument means. */
function filesOf(name: string): string[] {
  const path = name.replace(/^(\.\/)?(dist\/)?(test\/)?/, '').replace(/(\.test)?\.[jt]s$/, '');
  const found = all.filter((file) => file === `${path}.test.js` || file.startsWith(`${path.replace(/\/$/, '')}/`));
  if (found.length > 0) return found;
  console.error(`no test file is named "${name}": give a path below test/, such as scheduler/promise or scheduler`);
  process.exit(2);
}

const isRest = (name: string): boolean => REST.some((pattern) => pattern.test(name));
const chosen = options.rest ? (name: string) => isRest(name) || PROPERTIES.test(name) : (name: string) => !isRest(name);
const names = (asked.length > 0 ? [...new Set(asked.flatMap(filesOf))] : all.filter(chosen)).sort(
  (a, b) => rank(a) - rank(b) || a.localeCompare(b),
);

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
const made = asked.length === 0 ? await makeOnce(join(folder, 'made')) : {};
const isCore = asked.length === 0 && !options.rest;
const env = {
  SORTIE_TEST_MODEL: model,
  SORTIE_TEST_CASES: isCore ? '0.2' : '1',
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

/** How a process ended, and of a failure whether other work held the cores meanwhile. */
function lineOf(name: string, results: { ok: boolean; count: number; time: number | null } | null): string {
  const { ok, count, time } = results ?? { ok: false, count: 0, time: null };
  const load = (loadavg()[0] ?? 0) / availableParallelism();
  const busy = ok || load <= BUSY ? '' : `, while ${load.toFixed(1)} processes wanted each core`;
  return `${ok ? 'ok    ' : 'FAILED'} ${((time ?? MOST_MS) / 1000).toFixed(1)} s, ${count} tests: ${name}${busy}`;
}

/** The skipped tests with their reasons, then the failed assertions with what tap says of them, and a sum. */
function printEnd(tap: string, counts: { readonly pass: number; readonly fail: number; readonly skip: number }): void {
  for (const [, name] of tap.matchAll(/^ *ok \d+ - (.* # SKIP.*)$/gm)) console.log(`skipped: ${name}`);
  // tap gives the time of a test, and none of an assertion.
  const failures = tap.matchAll(/^( *)not ok \d+ - (?!.* # (?:time=|TODO)).*(?:\n\1 +---\n[^]*?\n\1 +\.\.\.$)?/gm);
  for (const [failure] of failures) console.log(`\n${failure}`);
  for (const line of failed) console.log(line);
  console.log(`\n${counts.pass} passed, ${counts.fail} failed, ${counts.skip} skipped; ${REPORT}`);
}

/** The lines of processes that failed: the last lines repeat them. */
const failed: string[] = [];
t.setTimeout(0);
// The core computes; some files of the rest wait for processes most of their time.
t.jobs = isCore ? 2 : 3;
if (!options.tap) {
  t.register();
  const report = t.pipe(createWriteStream(join(packageRoot, REPORT)));
  report.on('close', () => {
    printEnd(readFileSync(report.path, 'utf8'), t.counts);
  });
}
for (const { folder: shared, files } of groups) {
  const [first = ''] = files;
  const name = files.length > 1 ? `${files.length} files of ${shared}` : first.replace(/^dist\/|\.js$/g, '');
  const file = files.length > 1 ? relative(packageRoot, join(folder, 'together.js')) : first;
  // tap hands its recorder on in NODE_OPTIONS.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--enable-source-maps', ...imports, file];
  const spawned = { cwd: packageRoot, env: { ...env, SORTIE_TEST_FILES: files.join(' ') } };
  void t.spawn('env', args, { name, ...spawned, timeout: MOST_MS, buffered: true }).then((results) => {
    if (options.tap) return;
    const line = lineOf(name, results);
    console.log(line);
    if (results?.ok !== true) failed.push(line);
  });
}
