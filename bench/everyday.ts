/**
 * `npm run bench:everyday`: answers to everyday requests at every exit, with and without a constant end pressure, scored.
 *
 *   npm run bench:everyday -- --hints "15: Answer in one short sentence.|..." [--write] [--out FILE]
 *   npm run bench:everyday -- [--model DIR] [--write] [--pressures 0,2,4,6] [--sampled] [--fields JSON] [--out FILE] ...
 *
 * - Answers are greedy and end by themselves; `--sampled` has the sampling defaults as served, for loops.
 * - A pressure is the client's bias on the end tokens. A greedy answer with a pressure is a prefix of the one without.
 * - The last table is `kept`: the worth of full depth's answers if each ends at its last sentence within so many tokens.
 * - `--hints` measures full depth behind each hint instead, with requests for languages, code and data beside the
 *   others. Requests that no server gives a hint are left out, unless with `--all`. `--write` then writes `hints`.
 * - `--write` writes `quality.right` of each exit and `kept` to the manifest, from the half for tuning.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadServedModel } from '../src/gateway/api/load-served-model.js';
import { fractions } from '../src/cli/values.js';
import { MANIFEST_FILE } from '../src/engine/model/manifest-io.js';
import { askAll } from './chat.js';
import { type Answer, keptTable, kindTable, measuredOf, settingTable, withMeasured } from './everyday/report.js';
import { hintable, hintTable, hintTexts, measuredHints, withHints } from './everyday/hints.js';
import { FORM_REQUESTS, pressed, readRequests, REQUESTS } from './everyday/requests.js';
import { EMBEDDED, flag, number, numbers, optional, optionsOf, runBench, text } from './options.js';

const about = 'scores, lengths and loops of everyday requests at every exit; the worth of shorter answers';
const values = optionsOf('bench:everyday', about, {
  model: text('dir', 'model folder', EMBEDDED),
  requests: text('file', 'requests', REQUESTS),
  pressures: numbers('biases on the end tokens, 0 among them', [0, 2, 4, 6], fractions),
  sampled: flag('sampling defaults as served, instead of greedy answers'),
  draws: number('answers to each request with each setting', 1),
  tokens: number('safety cap of an answer', 400),
  hints: optional('list', 'hints as "WORDS: TEXT", separated by |, to measure instead of exits'),
  all: flag('with --hints: also requests that no server gives a hint'),
  fields: text('json', 'fields of each request that win over the others', '{}'),
  threads: number('compute threads', 2),
  slots: number('concurrent requests', 16),
  out: optional('file', 'JSON file for the answers'),
  write: flag("write each exit's `quality.right` and `kept` to the manifest of the model folder"),
});

async function main(): Promise<void> {
  if (values.write && values.sampled) throw new Error('--write must be without --sampled: it measures greedy answers');
  if (!values.pressures.includes(0)) throw new Error(`--pressures must hold 0, got "${values.pressures.join(',')}"`);
  const { name, exits, eosTokens, tokenizer } = loadServedModel(values.model);
  const layers = exits.map(({ layer }) => layer);
  const deepest = Math.max(...layers);
  if (values.hints !== undefined) return measureHints(name, deepest, values.hints);
  const answers = await asked(name, layers, eosTokens);
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(answers, null, 1)}\n`);
  const encode = (text: string): number[] => tokenizer.encode(text, false);
  const full = answers.filter(({ exit, pressure }) => exit === deepest && pressure === 0);
  const tables = [settingTable(answers, encode), kindTable(answers), keptTable(full, encode)];
  console.log(tables.map((lines) => lines.join('\n')).join('\n\n'));
  if (!values.write) return;
  const file = join(values.model, MANIFEST_FILE);
  writeFileSync(file, withMeasured(readFileSync(file, 'utf8'), measuredOf(answers, deepest, encode)));
}

async function measureHints(model: string, exit: number, list: string): Promise<void> {
  const all = [...readRequests(values.requests), ...readRequests(FORM_REQUESTS)];
  const requests = values.all ? all : hintable(all);
  const fields = { max_tokens: values.tokens, temperature: 0 };
  const jobs = [null, ...hintTexts(list)].flatMap((hint) =>
    requests.map((request) => ({ exit, hint, request, content: request.request + (hint?.text ?? ''), fields })),
  );
  const answers = (await askAll(values.model, model, values, jobs)).map(({ job: { hint, request }, text, tokens }) => {
    return { hint, request, text, tokens };
  });
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(answers, null, 1)}\n`);
  console.log(hintTable(answers).join('\n'));
  const hints = measuredHints(answers);
  console.log(JSON.stringify(hints));
  if (!values.write) return;
  const file = join(values.model, MANIFEST_FILE);
  writeFileSync(file, withHints(readFileSync(file, 'utf8'), hints));
}

async function asked(model: string, layers: readonly number[], endTokens: readonly number[]): Promise<Answer[]> {
  const { pressures, draws, tokens, sampled } = values;
  const own = JSON.parse(values.fields) as Record<string, unknown>;
  const common = { max_tokens: tokens, ...(sampled ? {} : { temperature: 0 }) };
  const jobs = layers.flatMap((exit) =>
    pressures.flatMap((pressure) =>
      readRequests(values.requests).flatMap((request) =>
        Array.from({ length: draws }, (_, seed) => {
          const fields = { ...common, seed, ...pressed(endTokens, pressure), ...own };
          return { exit, pressure, request, content: request.request, fields };
        }),
      ),
    ),
  );
  const answers = await askAll(values.model, model, values, jobs);
  return answers.map(({ job: { exit, pressure, request }, text, tokens, isCut }) => {
    return { exit, pressure, request, text, tokens, isComplete: !isCut };
  });
}

await runBench(main);
