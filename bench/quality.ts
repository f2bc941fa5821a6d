/**
 * `npm run bench:quality`: quality of each exit of a model folder. It sends no requests, but runs the served graphs.
 *
 *   npm run bench:quality -- --model DIR --base DIR --data FILE.jsonl [--out quality.json]
 *
 * The reference is the full depth of --base, a folder converted from the same base with `--kernels fp32`. Measures are
 * KL divergence, top-1 agreement and perplexity of the text, on the first tokens of held-out rows. Held-out rows are
 * the first rows of a data file, which training never uses.
 */
import { writeFileSync } from 'node:fs';
import { loadServedModel } from '../src/gateway/api/load-served-model.js';
import { compare, type ExitResult } from './quality/compare.js';
import { documentOf, readRows } from './quality/documents.js';
import { EMBEDDED, number, optional, optionsOf, required, runBench, text } from './options.js';
import { openExecutor } from './quality/exit-logits.js';
import { tableOf } from './table.js';

const about = 'KL and agreement of every exit with the full depth of a reference, through the served graphs';
const values = optionsOf('bench:quality', about, {
  model: text('dir', 'model folder', EMBEDDED),
  base: required('dir', 'reference: a folder converted from the same base with --kernels fp32'),
  data: required('file', 'JSONL of questions and answers; its first rows are held out'),
  documents: number('rows to use', 40),
  tokens: number('tokens to use of each row', 256),
  threads: number('compute threads', 2),
  out: optional('file', 'JSON file for `sortie convert --quality`'),
});

await runBench(measure);

async function measure(): Promise<void> {
  const { documents, tokens, threads } = values;
  const { chat, tokenizer } = loadServedModel(values.model);
  if (chat === null) throw new Error(`--model: ${values.model} has no chat template`);
  const texts = readRows(values.data)
    .slice(0, documents)
    .map((row) => documentOf(row, chat, tokenizer, tokens))
    .filter((ids) => ids.length > 1);
  if (texts.length === 0) throw new Error(`--data: ${values.data} has no usable row`);
  const model = await openExecutor(values.model, tokens, threads);
  const base = await openExecutor(values.base, tokens, threads);
  const results = compare(model, base, texts, (done) => {
    process.stderr.write(`${done} of ${texts.length} documents\n`);
  });
  model.dispose();
  base.dispose();
  for (const line of table(results)) console.log(line);
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(qualityFile(results), null, 2)}\n`);
}

function table(results: readonly ExitResult[]): string[] {
  const rows = results.map(({ layer, kl, agreement, perplexity }) => {
    return [String(layer), kl.toFixed(4), agreement.toFixed(4), perplexity.toFixed(2)];
  });
  return tableOf([['exit', 'KL', 'agreement', 'perplexity'], ...rows]);
}

function qualityFile(results: readonly ExitResult[]): Record<string, { kl: number; agreement: number }> {
  const rounded = (value: number): number => Number(value.toFixed(4));
  return Object.fromEntries(
    results.map(({ layer, kl, agreement }) => [layer, { kl: rounded(kl), agreement: rounded(agreement) }]),
  );
}
