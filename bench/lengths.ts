/**
 * `npm run bench:lengths`: lengths of a model's answers to chat questions, at every exit. Requests carry only the
 * information of a client: an exit and max_tokens.
 *
 *   npm run bench:lengths -- [--model DIR] [--questions FILE] [--cap N] [--write-manifest] ...
 *
 * Every exit answers each question twice over HTTP: greedily, and with the sampling of a request that states none. Writes
 * bench/planner/lengths.json.
 * With --write-manifest it also writes each exit's `lengths` to the model folder, the router's prior of answer lengths.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import { loadManifest, MANIFEST_FILE } from '../src/model/manifest-io.js';
import { askAll } from './lengths/ask.js';
import { withPrior } from './lengths/prior.js';
import { fileOf, tableOf } from './lengths/report.js';
import { positive } from './options.js';
import { readQuestions } from '../src/load/questions.js';
import { startSortie } from './server.js';

interface Options {
  readonly model: string;
  readonly questions: string;
  readonly out: string;
  readonly cap: string;
  readonly seed: string;
  readonly threads: string;
  readonly slots: string;
  readonly writeManifest: boolean;
}

const values = new Command('bench:lengths')
  .description('tokens of answers to chat questions at every exit, greedy and sampled')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--questions <file>', 'questions, one per line', join(packageRoot, 'bench', 'lengths', 'questions.txt'))
  .option('--out <file>', 'file for the lengths', join(packageRoot, 'bench', 'planner', 'lengths.json'))
  .option('--cap <tokens>', 'most tokens of an answer', '512')
  .option('--seed <n>', 'seed of the sampled answers', '1')
  .option('--threads <n>', 'compute threads', '2')
  .option('--slots <n>', 'concurrent questions', '16')
  .option('--write-manifest', 'write the quantiles of the lengths to the manifest of the model folder', false)
  .parse()
  .opts<Options>();

async function main(): Promise<void> {
  const { name, exits } = loadManifest(values.model);
  const layers = exits.map(({ layer }) => layer);
  const questions = readQuestions(values.questions);
  const [cap, seed] = [positive('--cap', values.cap), positive('--seed', values.seed)];
  const [threads, clients] = [positive('--threads', values.threads), positive('--slots', values.slots)];
  const server = await startSortie(values.model, ['--threads', String(threads), '--max-running', String(clients)]);
  try {
    const asking = { url: server.url, model: name, exits: layers, cap, seed, clients };
    const answers = await askAll(questions, asking, (done, all) => {
      if (done % 50 === 0) console.error(`${done} of ${all} answers`);
    });
    writeFileSync(values.out, fileOf(name, cap, answers));
    if (values.writeManifest) {
      const file = join(values.model, MANIFEST_FILE);
      writeFileSync(file, withPrior(readFileSync(file, 'utf8'), answers));
    }
    for (const line of tableOf(layers, answers)) console.log(line);
  } finally {
    await server.stop();
  }
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
