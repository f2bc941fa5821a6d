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
import { loadManifest, MANIFEST_FILE } from '../src/engine/model/manifest-io.js';
import { readQuestions } from './loadgen/questions.js';
import { packageRoot } from '../src/cli/options/config.js';
import { meanOf } from './loadgen/summary.js';
import { quantile } from '../src/util/stats.js';
import { askAll } from './chat.js';
import { type Length, withPrior } from './lengths/prior.js';
import { EMBEDDED, flag, number, optionsOf, runBench, text } from './options.js';
import { tableOf } from './table.js';

const values = optionsOf('bench:lengths', 'tokens of answers to chat questions at every exit, greedy and sampled', {
  model: text('dir', 'model folder', EMBEDDED),
  questions: text('file', 'questions, one per line', join(packageRoot, 'bench', 'lengths', 'questions.txt')),
  cap: number('most tokens of an answer', 512),
  seed: number('seed of the sampled answers', 1),
  threads: number('compute threads', 2),
  slots: number('concurrent questions', 16),
  writeManifest: flag('write the quantiles of the lengths to the manifest of the model folder'),
});

const KINDS = ['greedy', 'sampled'] as const;

async function lengthsOf(model: string, exits: readonly number[]): Promise<Length[]> {
  const questions = readQuestions(values.questions);
  const { cap, seed } = values;
  const jobs = exits.flatMap((exit) =>
    KINDS.flatMap((kind) =>
      questions.map((content, i) => {
        const sampling = kind === 'greedy' ? { temperature: 0 } : { seed: seed + i };
        return { exit, kind, content, fields: { max_tokens: cap, ...sampling } };
      }),
    ),
  );
  const answers = await askAll(values.model, model, values, jobs);
  return answers.map(({ job: { exit, kind }, tokens, isCut }) => ({ exit, kind, tokens, isCut }));
}

function rowOf(exit: number, kind: string, lengths: readonly Length[]): string[] {
  const tokens = lengths.map((length) => length.tokens);
  const cut = meanOf(lengths.map(({ isCut }) => Number(isCut)));
  const quantiles = [0.5, 0.9].map((share) => String(quantile(tokens, share)));
  return [String(exit), kind, ...quantiles, meanOf(tokens).toFixed(0), `${(100 * cut).toFixed(0)}%`];
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
