/** Documents against tables in the code. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { attainmentPlot } from '../bench/planner/attainment-plot.js';
import { packageRoot } from '../src/config.js';
import { GGML_FORMATS } from '../src/convert/gguf/dequantize.js';
import { ERRORS } from '../src/errors.js';

interface Document {
  readonly paths: Record<string, Record<string, { readonly responses: Record<string, { readonly headers: object }> }>>;
}

const documentOf = (name: string): string => readFileSync(join(packageRoot, 'docs', name), 'utf8');

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

void t.test('every type of GGUF weights that is read is in docs/models.md', async (t) => {
  for (const { name } of GGML_FORMATS.values()) t.ok(documentOf('models.md').includes(`\`${name}\``), name);
});

void t.test('docs/img/attainment.svg shows the results table of docs/router.md', async (t) => {
  t.equal(documentOf('img/attainment.svg'), attainmentPlot(documentOf('router.md')));
});
