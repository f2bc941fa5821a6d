/**
 * `npm run bench:speculation`: speed-up by drafts. Requests carry only the information of a client: a pinned exit,
 * sampling parameters and max_tokens.
 *
 *   npm run bench:speculation -- [--data FILE.jsonl] [--model DIR] [--rows 20] [--temperatures 0,0.7,1] [--exits 30,15]
 *     [--together 1,4]
 *
 * Answers questions with `--speculate all` and with `off`, alone or several at once. The default ones are about given
 * texts: summaries, copies, edits and answers. The sides alternate and use the same seeds. Prints tokens per second
 * after the first token, their ratio, and the drafts by source.
 */
import { join } from 'node:path';
import { loadServedModel } from '../src/gateway/api/load-served-model.js';
import { fractions } from '../src/cli/values.js';
import { monotonicMs } from '../src/util/clock.js';
import { OptionError, packageRoot } from '../src/cli/options/config.js';
import { EngineClient } from '../src/gateway/engine-client/client.js';
import type { DraftCount, SequenceRequest } from '../src/protocol/index.js';
import { answerOf } from './engine-answer.js';
import { benchOptions } from './engine-side.js';
import { greedy, GREEDY_BASE } from './greedy-request.js';
import { GREEDY } from '../src/protocol/sampling-rules.js';
import { EMBEDDED, number, numbers, optional, optionsOf, runBench, text } from './options.js';
import { readRows } from './quality/documents.js';
import { tableOf } from './table.js';

const SIDES = ['off', 'all'] as const;

const options = optionsOf('bench:speculation', 'speed of sequences with and without drafts', {
  data: text('file', 'JSONL of questions and answers', join(packageRoot, 'bench/speculation/given-texts.jsonl')),
  model: text('dir', 'model folder', EMBEDDED),
  rows: number('questions to use', 20),
  tokens: number('most tokens of an answer', 128),
  temperatures: numbers('temperatures', [0, 0.7, 1], fractions),
  exits: optional('list', 'exit layers, separated by commas (default: the deepest)'),
  together: numbers('answers at once', [1]),
  threads: number('compute threads', 2),
});

async function measure(): Promise<void> {
  const { rows, tokens: maxTokens, temperatures, threads } = options;
  const { chat, tokenizer, exits, eosTokens } = loadServedModel(options.model);
  if (chat === null) throw new Error(`--model: ${options.model} has no chat template`);
  const prompts = readRows(options.data)
    .slice(0, rows)
    .map(({ question }) => tokenizer.encode(chat.render([{ role: 'user', content: question }], true), false));
  const full = exits.at(-1)?.layer ?? 0;
  const layers = options.exits?.split(',').map(Number) ?? [full];
  const wrong = layers.find((layer) => !exits.some((exit) => exit.layer === layer));
  if (wrong !== undefined) throw new OptionError(`--exits must name exits of the model, got "${wrong}"`);

  const engines = SIDES.map((speculate) => new EngineClient(benchOptions(options.model, threads, { speculate })));
  try {
    for (const engine of engines) await engine.start();
    const table = [['exit', 'rows', 'temperature', 'off, tokens/s', 'all, tokens/s', 'ratio', 'drafted, accepted']];
    for (const layer of layers)
      for (const together of options.together)
        for (const temperature of temperatures) {
          const sides = SIDES.map(() => new Side());
          for (let row = 0; row < prompts.length; row += together) {
            const group = prompts.slice(row, row + together);
            for (const index of (row / together) % 2 === 0 ? [0, 1] : [1, 0]) {
              // Full depth answers as the base does. Other exits have their DRY rule.
              const sampling = { ...(layer === full ? GREEDY_BASE : GREEDY), temperature, seed: row };
              const fields = { stopTokens: eosTokens, sampling };
              const requests = group.map((prompt, i) =>
                greedy(`${layer}-${together}-${temperature}-${row + i}`, prompt, layer, maxTokens, fields),
              );
              await sides[index]?.answer(engines[index], requests);
            }
          }
          table.push([layer, together, temperature].map(String).concat(cellsOf(sides)));
        }
    for (const line of tableOf(table)) console.log(line);
  } finally {
    for (const engine of engines) await engine.close();
  }
}

/** Rates without drafts and with them, their ratio, and the drafts. */
function cellsOf(sides: readonly Side[]): string[] {
  const [off = 0, all = 0] = sides.map(({ rate }) => rate);
  return [off.toFixed(1), all.toFixed(1), (all / off).toFixed(2), sides[1]?.drafts ?? ''];
}

/** Answers groups of requests one after another and sums up tokens and time. */
class Side {
  #tokens = 0;
  #ms = 0;
  readonly #drafts: DraftCount[] = [];

  /** Tokens per second, without the first tokens. */
  get rate(): number {
    return (1000 * this.#tokens) / this.#ms;
  }

  get drafts(): string {
    const sources = [...new Set(this.#drafts.map(({ source }) => source))];
    const sum = (of: string, key: 'drafted' | 'accepted'): number =>
      this.#drafts.reduce((total, count) => total + (count.source === of ? count[key] : 0), 0);
    return sources.map((of) => `${of} ${sum(of, 'drafted')}, ${sum(of, 'accepted')}`).join('; ');
  }

  /** @param requests answered at once. Their time runs from the first token of any to the last end. */
  async answer(engine: EngineClient | undefined, requests: readonly SequenceRequest[]): Promise<void> {
    if (engine === undefined) return;
    let tokens = 0;
    let first = 0;
    const ends = await Promise.all(
      requests.map((request) =>
        answerOf(engine, request, () => {
          if (tokens++ === 0) first = monotonicMs();
        }),
      ),
    );
    this.#tokens += Math.max(0, tokens - 1);
    this.#ms += tokens > 1 ? Math.max(...ends.map(({ endedAt }) => endedAt)) - first : 0;
    this.#drafts.push(...ends.flatMap(({ drafts }) => drafts ?? []));
  }
}

await runBench(measure);
