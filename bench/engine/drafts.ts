/** `bench:engine --speculate`: one stream with drafts against one without, on a shape whose exits agree by construction. */
import { EngineClient } from '../../src/engine/client/client.js';
import type { DraftCount, GenerateMessage } from '../../src/engine/protocol.js';
import type { StageKernel } from '../../src/model/manifest.js';
import { monotonicMs } from '../../src/util/clock.js';
import { median } from '../../src/util/stats.js';
import { answerOf } from '../engine-answer.js';
import { benchOptions } from '../engine-side.js';
import { greedy, GREEDY_BASE } from '../greedy-request.js';
import { promptOf } from '../scenario.js';

const PROMPT_TOKENS = 64;
const ANSWER_TOKENS = 129;

interface Stream {
  readonly tokens: readonly number[];
  /** Tokens per second after the first one. */
  readonly rate: number;
  readonly drafts: readonly DraftCount[];
}

/**
 * Both engines answer the same prompts, in turns.
 * @param written called after each round
 * @returns lines of a report
 * @throws Error if a drafted answer differs
 */
export async function draftReport(
  dir: string,
  { threads, kernels, rounds }: { threads: number; kernels: readonly StageKernel[] | null; rounds: number },
  written: (line: string) => void,
): Promise<string[]> {
  const engines = (['off', 'all'] as const).map(
    (speculate) => new EngineClient(benchOptions(dir, threads, { kernels, speculate })),
  );
  try {
    const rates: number[][] = [[], []];
    let drafts: readonly DraftCount[] = [];
    for (const engine of engines) {
      const { exits } = await engine.start();
      // Drafts are tried and the plain step is measured before the first round.
      await streamOf(engine, greedy('first', promptOf(PROMPT_TOKENS, 9000), exits.at(-1) ?? 0, ANSWER_TOKENS));
    }
    for (let round = 0; round < rounds; round++) {
      const streams: Stream[] = [];
      for (const engine of engines) {
        const exit = engine.ready?.exits.at(-1) ?? 0;
        const prompt = promptOf(PROMPT_TOKENS, 100 * round);
        const sampling = { sampling: GREEDY_BASE };
        streams.push(await streamOf(engine, greedy(`r${round}`, prompt, exit, ANSWER_TOKENS, sampling)));
      }
      const [plain, drafted] = streams;
      if (plain?.tokens.join() !== drafted?.tokens.join()) throw new Error(`round ${round}: drafts changed the answer`);
      streams.forEach(({ rate }, side) => rates[side]?.push(rate));
      drafts = drafted?.drafts ?? [];
      written(
        `round ${round + 1}/${rounds}: ${streams.map(({ rate }) => rate.toFixed(1)).join(' without drafts, ')} with`,
      );
    }
    const [plain = NaN, drafted = NaN] = rates.map((side) => median(side));
    const counts = drafts.map(({ source, drafted: tried, accepted }) => `${source}: ${accepted} of ${tried} accepted`);
    return [
      'one stream, tokens per second, medians: without drafts | with drafts | ratio | drafts of the last round',
      [plain.toFixed(1), drafted.toFixed(1), (drafted / plain).toFixed(2), counts.join(', ')].join(' | '),
    ];
  } finally {
    for (const engine of engines) await engine.close();
  }
}

async function streamOf(engine: EngineClient, request: GenerateMessage): Promise<Stream> {
  const tokens: number[] = [];
  let first = 0;
  const { drafts = [] } = await answerOf(engine, request, ({ token }) => {
    if (tokens.push(token) === 1) first = monotonicMs();
  });
  return { tokens, rate: (1000 * (tokens.length - 1)) / (monotonicMs() - first), drafts };
}
