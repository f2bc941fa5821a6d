/** Statements of ARCHITECTURE.md and docs/scheduler.md about the source that a test can hold. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { packageRoot } from '../src/cli/options/config.js';

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

/** Fractions in code that no one tunes: quantiles that plans report, halves, and measured curves. */
const FRACTIONS: Readonly<Record<string, readonly string[]>> = {
  'admission.ts': ['0.1', '0.5', '0.9'],
  'planned-request.ts': ['0.5'],
  // Bins of a histogram.
  'sentence-length.ts': ['1.12', '0.5'],
  // Priors of models without a measurement.
  'output-length.ts': ['0.1', '0.25', '0.5', '0.75', '0.9'],
  'utility.ts': ['0.05', '0.25', '0.55', '0.7', '0.79', '0.88', '0.92', '0.96', '0.99'],
};

void t.test('policy.ts has all tunables of the decisions', async (t) => {
  const folder = join(packageRoot, 'src', 'engine', 'scheduler');
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts') && name !== 'policy.ts')) {
    const code = readFileSync(join(folder, file), 'utf8').replace(/\/\*.*?\*\/|\/\/[^\n]*/gs, '');
    const found = new Set([...code.matchAll(/(?<![\w.])\d+\.\d+/g)].map(([fraction]) => fraction));
    t.same(
      [...found].filter((fraction) => !(FRACTIONS[file] ?? []).includes(fraction)),
      [],
      file,
    );
  }
});
