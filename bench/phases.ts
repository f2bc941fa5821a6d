/**
 * Depth by phase: answers whose exit changes with the text, against answers from one exit. Times are those of one answer
 * alone, from the step costs. Agreement with full depth is audited.
 *
 *   npm run bench:phases -- --part sentence --questions FILE [--plans 30,10,15,20,25,10>30,15>30,10>25,30>15]
 *   npm run bench:phases -- --part schema [--plans ...]
 *
 * - `sentence`: "10>30" writes the first sentence at exit 10 and the rest at 30.
 *   Words of full depth: F1 of the words of an answer and of full depth's, if its plan comes first.
 * - `schema`: "10>30" writes JSON at exit 10, and numbers and enums at 30.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadServedModel } from '../src/api/served-model.js';
import { packageRoot } from '../src/config.js';
import { costModel, depthShape, exitIndex } from '../src/cost/model.js';
import { Executor } from '../src/engine/execution/executor.js';
import { loadModel } from '../src/engine/execution/load-model.js';
import { Grammars } from '../src/engine/grammar/grammars.js';
import { readQuestions } from '../src/load/questions.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { parseCostFile } from '../src/simulate/costs.js';
import { median } from '../src/util/stats.js';
import { positive } from './options.js';
import { keyAt, planOf, sentenceEnd, wordsInCommon } from './phases/plans.js';
import { DEEP_KEYS, factsOf, rightShare, SCHEMA } from './phases/schema.js';
import { tokenTimes } from './phases/time.js';
import { type Writer, type Written, write } from './phases/write.js';

const values = new Command('bench:phases')
  .description('answers whose exit changes with the text, against one exit: times, agreement')
  .option('--part <name>', 'sentence or schema', 'sentence')
  .option('--questions <file>', 'part sentence: JSON array of {instruction, input}, or one question a line')
  .option('--plans <list>', 'exits, or pairs first>second', '30,10,15,20,25,10>30,15>30,10>25,30>15')
  .option('--count <n>', 'answers of each plan', '40')
  .option('--limit <n>', 'most tokens of an answer', '200')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--cost <file>', 'step costs', join(packageRoot, 'bench', 'planner', 'costs.json'))
  .option('--threads <n>', 'compute threads', '2')
  .parse()
  .opts<
    Record<'part' | 'plans' | 'count' | 'limit' | 'model' | 'cost' | 'threads', string> & {
      questions?: string;
    }
  >();

const mean = (of: readonly number[]): number => of.reduce((sum, value) => sum + value, 0) / of.length;
const share = (of: readonly boolean[]): number => mean(of.map(Number));
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

async function main(): Promise<void> {
  if (!['sentence', 'schema'].includes(values.part))
    throw new Error(`--part must be sentence or schema, got "${values.part}"`);
  const isSchema = values.part === 'schema';
  const count = positive('--count', values.count);
  const { chat, tokenizer, eosTokens, tokenizerFile } = loadServedModel(values.model);
  if (chat === null) throw new Error(`--model: ${values.model} has no chat template`);
  const questions = isSchema
    ? Array.from({ length: count }, (_, i) => factsOf(i).question)
    : readQuestions(values.questions ?? '').slice(0, count);
  const prompts = questions.map((content) => tokenizer.encode(chat.render([{ role: 'user', content }], true), false));
  const { cost } = parseCostFile(readFileSync(values.cost, 'utf8'));
  const executor = new Executor(
    await loadModel({
      ...{
        modelDir: values.model,
        device: 'cpu',
        threads: positive('--threads', values.threads),
        kvMemoryBytes: 2 ** 30,
      },
      ...{ maxRunning: 16, maxQueue: 100, prefillChunk: 128, kernels: null, prefixReuse: true },
      audit: { busyShare: 0, idleShare: 1 },
    }),
  );
  const limit = positive('--limit', values.limit);
  const writer: Writer = { executor, costs: cost, tokenizer, stopTokens: eosTokens, limit };
  // The thread of grammars keeps no process alive.
  setInterval(() => undefined, 1000);
  const grammars = new Grammars({ tokenizer: tokenizerFile, endTokens: eosTokens }, () => undefined);
  const shape = depthShape(loadManifest(values.model));
  const model = costModel(cost, shape);
  const times = ({ promptTokens, layers }: Written): number[] =>
    tokenTimes(
      model,
      promptTokens,
      layers.map((layer) => exitIndex(shape, layer)),
    );
  const heads = isSchema
    ? ['Plan', 'Total, ms', 'Tokens', 'Agreement', 'At numbers and enums', 'Right values', 'Right names', 'Ended']
    : [
        'Plan',
        'First sentence, ms',
        'Total, ms',
        'Tokens',
        'Agreement',
        'Of the first sentence',
        'Words of full depth',
        'Ended',
      ];
  console.log([row(heads), row(heads.map(() => '---'))].join('\n'));
  let deep: readonly Written[] = [];
  for (const text of values.plans.split(',')) {
    const plan = planOf(text, isSchema ? DEEP_KEYS : null);
    const all = await write(writer, prompts, plan, isSchema ? { text: SCHEMA, grammars } : null);
    if (text === String(shape.exits.at(-1)?.layer)) deep = all;
    const totals = all.map((each) => times(each).at(-1) ?? 0);
    const tokens = all.map(({ layers }) => layers.length);
    const agreement = share(all.flatMap(({ agrees }) => agrees)).toFixed(3);
    const ended = share(all.map(({ isEnded }) => isEnded)).toFixed(2);
    if (isSchema) {
      const atValues = all.flatMap(({ agrees, prefixes }) =>
        agrees.filter((_, i) => DEEP_KEYS.some((key) => key === keyAt(prefixes[i - 1] ?? ''))),
      );
      const right = mean(all.map((each, i) => rightShare(factsOf(i).values, each.text)));
      const names = mean(all.map((each, i) => rightShare(factsOf(i).names, each.text)));
      console.log(
        row([
          text,
          mean(totals).toFixed(0),
          mean(tokens).toFixed(1),
          agreement,
          share(atValues).toFixed(3),
          right.toFixed(3),
          names.toFixed(3),
          ended,
        ]),
      );
      continue;
    }
    const firsts = all.map((each) => firstSentence(each));
    const starts = all.map((each, i) => times(each)[(firsts[i] ?? 1) - 1] ?? 0);
    const common = mean(all.map((each, i) => wordsInCommon(each.text, deep[i]?.text ?? '')));
    const early = share(all.flatMap(({ agrees }, i) => agrees.slice(0, firsts[i])));
    console.log(
      row([
        ...[text, `${median(starts).toFixed(0)} (${mean(starts).toFixed(0)})`],
        ...[
          `${median(totals).toFixed(0)} (${mean(totals).toFixed(0)})`,
          `${median(tokens)} (${mean(tokens).toFixed(0)})`,
        ],
        ...[agreement, early.toFixed(3), common.toFixed(3), ended],
      ]),
    );
  }
  executor.dispose();
}

/** Tokens of the first sentence; all of an answer without an end of one. */
function firstSentence({ prefixes }: Written): number {
  const end = prefixes.findIndex((text) => sentenceEnd(text) !== null);
  return end < 0 ? prefixes.length : end + 1;
}

await main()
  .catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  })
  .finally(() => {
    process.exit();
  });
