// Holds the sizes of .ci/size.json: lines and files of each room, bytes of pages and records. A room over its figure by
// more than 1% is a failure. Usage: node .ci/size.js
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const TOLERANCE = 1.01;
const PAGES = /^(docs\/|README|ARCHITECTURE|CONTRIBUTING|SECURITY)/;
const root = join(import.meta.dirname, '..');

/** The figures that a tracked file counts for. */
function figures(file) {
  if (file.startsWith('src/web/')) return { lines: ['web'] };
  if (/^src\/.*\.ts$/.test(file)) {
    const room = file.split('/')[1];
    return { lines: ['src', ...(room.endsWith('.ts') ? [] : [`src/${room}`])], files: ['src files'] };
  }
  if (/^test\/.*\.ts$/.test(file)) return { lines: ['test'], files: ['test files'] };
  if (/^bench\/.*\.ts$/.test(file)) return { lines: ['bench'] };
  if (/^training\/.*\.py$/.test(file)) return { lines: ['training'] };
  if (!file.endsWith('.md') || file === 'CHANGELOG.md') return {};
  return { bytes: [PAGES.test(file) ? 'pages, bytes' : 'records, bytes'] };
}

/** Every figure of the checkout. */
function measure() {
  const sizes = {};
  const add = (name, amount) => {
    sizes[name] = (sizes[name] ?? 0) + amount;
  };
  for (const file of execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).trim().split('\n')) {
    const { lines = [], files = [], bytes = [] } = figures(file);
    if (lines.length + bytes.length === 0) continue;
    const data = readFileSync(join(root, file));
    for (const name of lines) add(name, data.toString('latin1').split('\n').length - 1);
    for (const name of files) add(name, 1);
    for (const name of bytes) add(name, data.length);
  }
  return sizes;
}

const most = JSON.parse(readFileSync(join(import.meta.dirname, 'size.json'), 'utf8'));
const sizes = measure();
let isOver = false;
for (const name of new Set([...Object.keys(most), ...Object.keys(sizes)])) {
  const size = sizes[name] ?? 0;
  const bound = most[name] ?? 0;
  const isTooLarge = size > bound * TOLERANCE;
  isOver ||= isTooLarge;
  console.log(
    `${name.padEnd(16)} ${String(size).padStart(7)} of ${bound}${isTooLarge ? '  over: see CONTRIBUTING.md, Size' : ''}`,
  );
}
process.exitCode = isOver ? 1 : 0;
