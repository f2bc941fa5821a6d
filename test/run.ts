/**
 * Runs the test files that are named, or all, two at a time: `tap` runs this file, and this file runs the others.
 * A name is a path from here without `.test.js`. Each file first imports the module that SORTIE_TEST_IMPORT names.
 *
 * tap's runner loads a recorder of modules into each process that a test starts. The recorder serves coverage, and it
 * costs a second of processor time per process. A file that starts here runs without it.
 */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import t from 'tap';
import { packageRoot } from '../src/config.js';

/** The folders of the longest files come first, so that both cores are busy until the end. */
const FIRST = ['chaos', 'deploy', 'engine', 'conformance', 'http'];

function rank(name: string): number {
  const index = FIRST.findIndex((folder) => name.startsWith(`${folder}/`));
  return index < 0 ? FIRST.length : index;
}

const folder = join(packageRoot, 'dist', 'test');
const all = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.js'));
const named = process.argv.slice(2).map((name) => `${name}.test.js`);
const names = (named.length > 0 ? named : all).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));

const { SORTIE_TEST_IMPORT: module } = process.env;
const imports = module === undefined ? [] : ['--import', module];

t.setTimeout(0);
t.jobs = 2;
for (const name of names) {
  const file = relative(packageRoot, join(folder, name));
  // tap hands its recorder on in NODE_OPTIONS.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--enable-source-maps', ...imports, file];
  void t.spawn('env', args, { name: file, cwd: packageRoot, timeout: 300_000, buffered: true });
}
