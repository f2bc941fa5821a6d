/** Compares the documents with the tables in the code, with the files that they name, and with each other. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { packageRoot } from '../src/cli/options/config.js';
import { GGML_FORMATS } from '../src/convert/formats/dequantize.js';
import { ERRORS } from '../src/gateway/api/errors.js';
import { createSeries } from '../src/gateway/telemetry/series.js';

interface Document {
  readonly paths: Record<string, Record<string, { readonly responses: Record<string, { readonly headers: object }> }>>;
}

const docs = join(packageRoot, 'docs');
const documentOf = (name: string): string => readFileSync(join(docs, name), 'utf8');

/** The names in code marks in one column of every table. */
function namesInColumn(text: string, column: number): string[] {
  const cells = text.split('\n').flatMap((line) => (line.startsWith('|') ? [line.split('|')[column + 1] ?? ''] : []));
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
}

void t.test('docs/configuration.md is current: npm run docs:configuration writes it', async (t) => {
  const page = spawnSync(process.execPath, [join(packageRoot, 'dist', 'docs', 'configuration.js')], {
    encoding: 'utf8',
  });
  t.equal(page.status, 0);
  t.equal(documentOf('configuration.md'), page.stdout);
});

void t.test('docs/runbook.md has every error of load, limits and server faults', async (t) => {
  const symptoms = documentOf('runbook.md')
    .split('\n')
    .map((line) => line.split('|')[1] ?? '');
  const codes = Object.entries(ERRORS).filter(([, { status }]) => status === 429 || status >= 500);
  t.ok(codes.length > 5);
  for (const [code, { status }] of codes)
    t.ok(
      symptoms.some((cell) => cell.includes(`${status} `) && cell.includes(`\`${code}\``)),
      code,
    );
});

void t.test('every series in docs/metrics.md is exported', async (t) => {
  const exported = createSeries('m').registry;
  const names = namesInColumn(documentOf('metrics.md'), 0).filter((name) => !name.startsWith('sortie_...'));
  t.ok(names.length > 15, `${names.length} names`);
  for (const name of names) t.ok(exported.getSingleMetric(`sortie_${name}`), name);
});

void t.test('every test that docs/reliability.md names exists', async (t) => {
  const files = readdirSync(join(packageRoot, 'test'), { recursive: true, encoding: 'utf8' });
  const names = namesInColumn(documentOf('reliability.md'), 2);
  t.ok(names.length > 20, `${names.length} names`);
  for (const name of names) {
    const area = name.includes('/') ? `${dirname(name)}/` : '';
    const end = `${name.slice(area.length)}.test.ts`;
    const isIt = (file: string): boolean => file.startsWith(area) && (file === end || file.endsWith(`/${end}`));
    t.ok(files.some(isIt), name);
  }
});

/** GitHub's anchor of a heading. */
function anchorOf(heading: string): string {
  const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
  return text.replace(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-');
}

/** All documents except records (`bench/results`). */
const files = [
  ...['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'training/README.md'],
  'models/smollm2-135m-sorted/README.md',
  ...readdirSync(docs).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
];

/** Bytes of a page that a reader takes in at once. */
const MOST_BYTES = 9 * 1024;

for (const file of files.filter((name) => name !== 'docs/configuration.md')) {
  void t.test(`${file} has at most ${MOST_BYTES} bytes`, async (t) => {
    const { length } = readFileSync(join(packageRoot, file));
    t.ok(length <= MOST_BYTES, `${length} bytes`);
  });
}

void t.test('every link between the documents leads to a file and a heading', async (t) => {
  let count = 0;
  for (const file of files) {
    const text = readFileSync(join(packageRoot, file), 'utf8').replace(/^```.*?^```/gms, '');
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#');
      const to = path === '' ? join(packageRoot, file) : join(packageRoot, dirname(file), path);
      if (!existsSync(to)) t.fail(`${file} links to ${relative(packageRoot, to)}`);
      else if (anchor !== undefined) {
        const headings = [...readFileSync(to, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => anchorOf(title));
        if (!headings.includes(anchor)) t.fail(`${file} links to ${target}`);
      }
      count += 1;
    }
  }
  t.ok(count > 50, `${count} links`);
});

void t.test('every error is in the table of docs/api.md, under its status', async (t) => {
  const rows = documentOf('api.md').split('\n');
  for (const [code, { status }] of Object.entries(ERRORS))
    t.ok(
      rows.some((row) => row.startsWith(`| ${status} `) && row.includes(`\`${code}\``)),
      code,
    );
});

void t.test('every response header of openapi.json is in docs/clients.md or docs/api.md', async (t) => {
  const { paths } = JSON.parse(readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8')) as Document;
  const answers = Object.values(paths).flatMap((path) =>
    Object.values(path).flatMap((o) => Object.values(o.responses)),
  );
  const names = new Set(answers.flatMap(({ headers }) => Object.keys(headers)));
  t.ok(names.has('x-exit-layer'));
  const text = `${documentOf('clients.md')}${documentOf('api.md')}`.toLowerCase();
  for (const name of names) t.ok(text.includes(`\`${name.replace(/(?<=^x-ratelimit-).*/, '*')}`), name);
});

void t.test('docs/models.md has every supported type of GGUF weights', async (t) => {
  for (const { name } of GGML_FORMATS.values()) t.ok(documentOf('models.md').includes(`\`${name}\``), name);
});

// The borders of ARCHITECTURE.md between the processes.

const built = resolve(dirname(fileURLToPath(import.meta.url)), '..', 'src');

/** The built files that a file loads when it starts, itself included, relative to src. */
function loadedBy(entry: string): string[] {
  const found = new Set<string>();
  const visit = (file: string): void => {
    if (found.has(file) || !existsSync(file)) return;
    found.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, path = ''] of text.matchAll(/^(?:import|export)\b[^;]*?from '(\.[^']+)'|^import '(\.[^']+)'/gm))
      if (path !== '') visit(resolve(dirname(file), path));
  };
  visit(join(built, entry));
  return [...found].map((file) => relative(built, file));
}

void t.test('the gateway loads nothing of engine and scheduler', async (t) => {
  const files = loadedBy('gateway/serve/serve.js');
  t.ok(files.length > 100, `${files.length} files`);
  t.same(
    files.filter((file) =>
      /^(engine\/(?!model\/(manifest|architecture|common-sampling|kernels|onnx-proto))|convert)\//.test(file),
    ),
    [],
  );
  t.ok(loadedBy('engine/worker/process.js').some((file) => file.startsWith('engine/scheduler/')));
});
