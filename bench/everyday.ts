/**
 * `npm run bench:everyday`: answers to everyday requests at every exit, with and without a constant end pressure, scored.
 *
 *   npm run bench:everyday -- [--model DIR] [--write] [--pressures 0,2,4,6] [--sampled] [--fields JSON] [--out FILE] ...
 *
 * - Answers are greedy and end by themselves; `--sampled` has the sampling defaults as served, for loops.
 * - A pressure is the client's bias on the end tokens. A greedy answer with a pressure is a prefix of the one without.
 * - The last table is `kept`: the worth of full depth's answers if each ends at its last sentence within so many tokens.
 * - `--write` writes `quality.right` of each exit and `kept` to the manifest, from the half for tuning.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadServedModel } from '../src/api/served-model.js';
import { MANIFEST_FILE } from '../src/model/manifest-io.js';
import { askAll } from './chat.js';
import { type Answer, pressed } from './everyday/answer.js';
import { keptTable, kindTable, measuredOf, settingTable, withMeasured } from './everyday/report.js';
import { readRequests, REQUESTS } from './everyday/requests.js';
import { EMBEDDED, nonNegatives, positive, runBench } from './options.js';
import { startSortie, withServer } from './server.js';

const values = new Command('bench:everyday')
  .description('scores, lengths and loops of everyday requests at every exit; the worth of shorter answers')
  .option('--model <dir>', 'model folder', EMBEDDED)
  .option('--requests <file>', 'requests', REQUESTS)
  .option('--pressures <list>', 'biases on the end tokens, 0 among them', '0,2,4,6')
  .option('--sampled', 'sampling defaults as served, instead of greedy answers', false)
  .option('--draws <n>', 'answers to each request with each setting', '1')
  .option('--tokens <n>', 'safety cap of an answer', '400')
  .option('--fields <json>', 'fields of each request that win over the others', '{}')
  .option('--threads <n>', 'compute threads', '2')
  .option('--slots <n>', 'concurrent requests', '16')
  .option('--out <file>', 'JSON file for the answers')
  .option('--write', "write each exit's `quality.right` and `kept` to the manifest of the model folder", false)
  .parse()
  .opts<
    Record<'model' | 'requests' | 'pressures' | 'draws' | 'tokens' | 'fields' | 'threads' | 'slots', string> &
      Record<'sampled' | 'write', boolean> & { readonly out?: string }
  >();

async function main(): Promise<void> {
  if (values.write && values.sampled) throw new Error('--write must be without --sampled: it measures greedy answers');
  const pressures = nonNegatives('--pressures', values.pressures);
  if (!pressures.includes(0)) throw new Error(`--pressures must hold 0, got "${values.pressures}"`);
  const { name, exits, eosTokens, tokenizer } = loadServedModel(values.model);
  const layers = exits.map(({ layer }) => layer);
  const deepest = Math.max(...layers);
  const answers = await asked(name, layers, pressures, eosTokens);
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(answers, null, 1)}\n`);
  const encode = (text: string): number[] => tokenizer.encode(text, false);
  const full = answers.filter(({ exit, pressure }) => exit === deepest && pressure === 0);
  const tables = [settingTable(answers, encode), kindTable(answers), keptTable(full, encode)];
  console.log(tables.map((lines) => lines.join('\n')).join('\n\n'));
  if (!values.write) return;
  const file = join(values.model, MANIFEST_FILE);
  writeFileSync(file, withMeasured(readFileSync(file, 'utf8'), measuredOf(answers, deepest, encode)));
}

async function asked(
  model: string,
  layers: readonly number[],
  pressures: readonly number[],
  endTokens: readonly number[],
): Promise<Answer[]> {
  const requests = readRequests(values.requests);
  const [clients, threads] = [positive('--slots', values.slots), positive('--threads', values.threads)];
  const draws = Array.from({ length: positive('--draws', values.draws) }, (_, seed) => seed);
  const own = JSON.parse(values.fields) as Record<string, unknown>;
  const common = { max_tokens: positive('--tokens', values.tokens), ...(values.sampled ? {} : { temperature: 0 }) };
  const jobs = layers.flatMap((exit) =>
    pressures.flatMap((pressure) =>
      requests.flatMap((request) =>
        draws.map((seed) => {
          const fields = { ...common, seed, ...pressed(endTokens, pressure), ...own };
          return { exit, pressure, request, content: request.request, fields };
        }),
      ),
    ),
  );
  const server = startSortie(values.model, ['--threads', String(threads), '--max-running', String(clients)]);
  const answers = await withServer(server, ({ url }) => askAll({ url, model, clients }, jobs));
  return answers.map(({ job: { exit, pressure, request }, text, tokens, isCut }) => {
    return { exit, pressure, request, text, tokens, isComplete: !isCut };
  });
}

await runBench(main);
