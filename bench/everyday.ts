/**
 * `npm run bench:everyday`: answers to everyday requests at every exit, with the sampling defaults as served.
 *
 *   npm run bench:everyday -- [--model DIR] [--half held-out] [--draws 2] [--fields JSON] [--out FILE] ...
 *
 * The table has, for each exit, the share of answers that loop, that end by themselves and that are right. Defaults are
 * chosen with `--half tuning` and reported with `--half held-out`. Exit code 1 for a failed measurement.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadServedModel } from '../src/api/served-model.js';
import { packageRoot } from '../src/config.js';
import type { TextTokenizer } from '../src/text/tokenizer.js';
import { type Answer, askAll } from './everyday/ask.js';
import { isRight, loops, readRequests } from './everyday/requests.js';
import { positive } from './options.js';
import { startSortie } from './server.js';

interface Options {
  readonly model: string;
  readonly requests: string;
  readonly half: string;
  readonly draws: string;
  readonly tokens: string;
  readonly fields: string;
  readonly threads: string;
  readonly slots: string;
  readonly out?: string;
}

const values = new Command('bench:everyday')
  .description('loops, own ends and right answers of everyday requests at every exit')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--requests <file>', 'requests', join(packageRoot, 'bench', 'everyday', 'requests.json'))
  .option('--half <name>', 'tuning, held-out or both', 'held-out')
  .option('--draws <n>', 'answers to each request at each exit', '2')
  .option('--tokens <n>', 'most tokens of an answer', '120')
  .option('--fields <json>', 'fields of each request that win over the served defaults', '{}')
  .option('--threads <n>', 'compute threads', '2')
  .option('--slots <n>', 'concurrent requests', '16')
  .option('--out <file>', 'JSON file for the answers')
  .parse()
  .opts<Options>();

async function main(): Promise<void> {
  if (!['tuning', 'held-out', 'both'].includes(values.half))
    throw new Error(`--half must be tuning, held-out or both, got "${values.half}"`);
  const requests = readRequests(values.requests).filter(({ half }) => [half, 'both'].includes(values.half));
  const { name, exits, tokenizer } = loadServedModel(values.model);
  const layers = exits.map(({ layer }) => layer);
  const [clients, threads] = [positive('--slots', values.slots), positive('--threads', values.threads)];
  const server = await startSortie(values.model, ['--threads', String(threads), '--max-running', String(clients)]);
  try {
    const answers = await askAll(requests, {
      url: server.url,
      model: name,
      exits: layers,
      maxTokens: positive('--tokens', values.tokens),
      draws: positive('--draws', values.draws),
      fields: JSON.parse(values.fields) as Record<string, unknown>,
      clients,
    });
    if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(answers, null, 1)}\n`);
    console.log('| exit | answers | loops | end by themselves | right |');
    console.log('| --- | --- | --- | --- | --- |');
    for (const layer of layers) console.log(rowOf(layer, answers, tokenizer));
  } finally {
    await server.stop();
  }
}

function rowOf(layer: number, answers: readonly Answer[], tokenizer: TextTokenizer): string {
  const own = answers.filter(({ exit }) => exit === layer);
  const looping = own.filter(({ text }) => loops(tokenizer.encode(text, false)));
  const complete = own.filter(({ isComplete }) => isComplete);
  const checks = own.map(({ request, text }) => isRight(request, text)).filter((right) => right !== null);
  const right = checks.filter(Boolean);
  const percent = (part: number): string => `${((100 * part) / own.length).toFixed(0)}%`;
  return `| ${layer} | ${own.length} | ${looping.length} | ${percent(complete.length)} | ${right.length} of ${checks.length} |`;
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
