/**
 * `npm run bench:lengths`: lengths of a model's answers to chat questions, at every exit. Requests carry only the
 * information of a client: an exit and max_tokens.
 *
 *   npm run bench:lengths -- [--model DIR] [--questions FILE] [--cap N] [--write-manifest] ...
 *
 * Every exit answers each question twice over HTTP: greedily, and with the sampling of a request that states none. With
 * --write-manifest it writes each exit's `lengths` to the model folder, the router's prior of answer lengths.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadManifest, MANIFEST_FILE } from '../src/model/manifest-io.js';
import { readQuestions } from '../src/load/questions.js';
import { packageRoot } from '../src/config.js';
import { quantile } from '../src/util/stats.js';
import { askAll } from './chat.js';
import { type Length, withPrior } from './lengths/prior.js';
import { EMBEDDED, positive, runBench } from './options.js';
import { startSortie, withServer } from './server.js';
import { tableOf } from './table.js';

const values = new Command('bench:lengths')
  .description('tokens of answers to chat questions at every exit, greedy and sampled')
  .option('--model <dir>', 'model folder', EMBEDDED)
  .option('--questions <file>', 'questions, one per line', join(packageRoot, 'bench', 'lengths', 'questions.txt'))
  .option('--cap <tokens>', 'most tokens of an answer', '512')
  .option('--seed <n>', 'seed of the sampled answers', '1')
  .option('--threads <n>', 'compute threads', '2')
  .option('--slots <n>', 'concurrent questions', '16')
  .option('--write-manifest', 'write the quantiles of the lengths to the manifest of the model folder', false)
  .parse()
  .opts<
    Record<'model' | 'questions' | 'cap' | 'seed' | 'threads' | 'slots', string> & { readonly writeManifest: boolean }
  >();

const KINDS = ['greedy', 'sampled'] as const;

async function lengthsOf(model: string, exits: readonly number[]): Promise<Length[]> {
  const questions = readQuestions(values.questions);
  const [cap, seed] = [positive('--cap', values.cap), positive('--seed', values.seed)];
  const [threads, clients] = [positive('--threads', values.threads), positive('--slots', values.slots)];
  const jobs = exits.flatMap((exit) =>
    KINDS.flatMap((kind) =>
      questions.map((content, i) => {
        const sampling = kind === 'greedy' ? { temperature: 0 } : { seed: seed + i };
        return { exit, kind, content, fields: { max_tokens: cap, ...sampling } };
      }),
    ),
  );
  const server = startSortie(values.model, ['--threads', String(threads), '--max-running', String(clients)]);
  const answers = await withServer(server, ({ url }) => askAll({ url, model, clients }, jobs));
  return answers.map(({ job: { exit, kind }, tokens, isCut }) => ({ exit, kind, tokens, isCut }));
}

function rowOf(exit: number, kind: string, lengths: readonly Length[]): string[] {
  const tokens = lengths.map((length) => length.tokens);
  const mean = tokens.reduce((sum, each) => sum + each, 0) / tokens.length;
  const cut = lengths.filter(({ isCut }) => isCut).length / lengths.length;
  const quantiles = [0.5, 0.9].map((share) => String(quantile(tokens, share)));
  return [String(exit), kind, ...quantiles, mean.toFixed(0), `${(100 * cut).toFixed(0)}%`];
}

await runBench(async () => {
  const { name, exits } = loadManifest(values.model);
  const layers = exits.map(({ layer }) => layer);
  const lengths = await lengthsOf(name, layers);
  if (values.writeManifest) {
    const file = join(values.model, MANIFEST_FILE);
    writeFileSync(file, withPrior(readFileSync(file, 'utf8'), lengths));
  }
  const rows = layers.flatMap((layer) =>
    KINDS.map((kind) =>
      rowOf(
        layer,
        kind,
        lengths.filter((each) => each.exit === layer && each.kind === kind),
      ),
    ),
  );
  for (const line of tableOf([['exit', 'answers', 'median', 'p90', 'mean', 'cut at the cap'], ...rows]))
    console.log(line);
});
