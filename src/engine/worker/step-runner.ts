/**
 * Runs the plan of a step on the executor, and samples the tokens of its rows.
 *
 * The work of a step as metrics report it.
 *
 * Must not know: how a plan is made.
 */
import type { Head, States } from '../model/head.js';
import type { StepMessage, StepWork } from '../../protocol/index.js';
import type { ChunkPlan, StepPlan, StepResult, TokenResult } from '../scheduler/step-plan.js';
import type { Answer } from '../answer.js';
import type { Executor } from '../execution/executor.js';
import type { Chunk, Row } from '../execution/step-batch.js';
import type { StepClock } from '../execution/step-clock.js';
import type { Landings } from './landings.js';
import { scorePrompt } from '../sampling/prompt-scores.js';
import {
  isPlainGreedy,
  prepareBatch,
  prepareVerification,
  sampleBatch,
  type SampledToken,
} from '../sampling/sample-batch.js';
import { type Draft, draftOf, verify } from '../speculation/speculative-step.js';
import { type DepthShape, predictMs, type Work } from '../scheduler/cost/model.js';
import { at } from '../../util/at.js';
import type { Scheduler } from '../scheduler/scheduler.js';

/** The events of a step's message. */
export type StepEvents = {
  readonly [K in 'planned' | 'rejected' | 'prompts' | 'tokens' | 'ended']: StepMessage[K][number][];
};

/** A step that has run, with its answers by row: plain greedy ones come first (sample-batch.ts). */
interface RanStep {
  readonly answers: readonly Answer[];
  readonly draft: Draft | null;
}

interface AnswerRow extends Row {
  readonly answer: Answer;
}

export class StepRunner {
  constructor(
    private readonly executor: Executor,
    private readonly landings: Landings,
    private readonly clock: StepClock,
    private readonly answerOf: (id: string) => Answer,
  ) {}

  /** Runs a plan, and leaves what sampling reads of its rows in the head. */
  run(plan: StepPlan, events: StepEvents): RanStep {
    this.clock.run('memory', () => {
      this.executor.apply(plan.memory);
    });
    const rows = plan.rows.map(({ id, slot, exit, window }): AnswerRow => {
      const answer = this.answerOf(id);
      const units = this.executor.exit(exit);
      answer.exitDry = units.dry;
      answer.window = window;
      return { answer, slot: at(this.executor.table.slots, slot), exit: units };
    });
    this.landings.begin(
      rows.map(({ answer }) => answer),
      plan.landing,
    );
    rows.sort((a, b) => Number(isPlainGreedy(b.answer)) - Number(isPlainGreedy(a.answer)));
    const answers = rows.map(({ answer }) => answer);
    const draft = this.#draft(plan, answers);
    const chunks = plan.chunks.map((chunk) => this.#chunk(chunk, events));
    const choose = (head: Head): void => {
      prepare(head, answers, draft);
    };
    this.executor.execute({ chunks, rows, draft }, choose, this.clock);
    return { answers, draft };
  }

  /** Samples the tokens of a step, or those of its draft that agree, and reports them. */
  sample({ answers, draft }: RanStep, events: StepEvents): Pick<StepResult, 'tokens' | 'draft'> {
    const tokens: TokenResult[] = [];
    const take = (answer: Answer, choice: SampledToken): boolean => {
      const token = this.#take(answer, choice, events);
      tokens.push(token);
      return !token.isEnd && answer.generated < answer.request.maxTokens;
    };
    const [lone] = answers;
    if (draft !== null && lone !== undefined) {
      const accepted = verify(this.executor, lone, draft, (choice) => take(lone, choice));
      return { tokens, draft: { drafted: draft.tokens.length, accepted } };
    }
    for (const [row, choice] of sampleBatch(this.executor.head, answers).entries()) {
      const answer = answers[row];
      if (answer !== undefined) take(answer, choice);
    }
    return { tokens, draft: null };
  }

  /** Gives a token to its answer. */
  #take(answer: Answer, { token, logprobs, landed }: SampledToken, events: StepEvents): TokenResult {
    const { id, generated, sequence } = answer;
    const wasThinking = answer.constraint?.isThinking === true;
    const isEnd = answer.accept(token);
    if (isEnd) {
      answer.last = {
        ...(logprobs !== null && { endToken: { token, logprobs } }),
        ...(landed && { landed: { at: generated, ...landed } }),
      };
      return { id, token, isEnd, mayEnd: null, ...(landed && { hasLanded: true }) };
    }
    events.tokens.push({ id, token, exit: this.executor.exit(sequence.exit).layer, logprobs });
    return { id, token, isEnd, mayEnd: this.landings.read(answer, token, wasThinking) };
  }

  /** The draft of the only row. The runs of a shallower exit that drafts are decoding, whenever they happen. */
  #draft({ draft }: StepPlan, [lone]: readonly Answer[]): Draft | null {
    if (draft === null || lone === undefined) return null;
    return this.clock.run('decode', () => {
      const made = draftOf(this.executor, lone, draft, (tokens) => this.landings.mustEnd(lone, tokens));
      if (made !== null) this.landings.plan(lone, made.tokens);
      return made;
    });
  }

  /** A chunk with its slot. Its states are read where the client asks for the log-probabilities of its prompt. */
  #chunk({ id, slot, exit, end }: ChunkPlan, events: StepEvents): Chunk {
    const answer = this.answerOf(id);
    const span = { slot: at(this.executor.table.slots, slot), exit: this.executor.exit(exit), end };
    if (answer.request.promptLogprobs === null) return span;
    const { head, model } = this.executor;
    const read = (states: States): void => {
      scorePrompt(head, model.limits.maxRows, answer, states, events.prompts);
    };
    return { ...span, read };
  }
}

/** Brings to the host what sampling needs of the rows of a step, or of the draft of its only row. */
function prepare(head: Head, answers: readonly Answer[], draft: Draft | null): void {
  const [lone] = answers;
  if (draft !== null && lone !== undefined) draft.isArgmax = prepareVerification(head, lone, draft.tokens);
  else prepareBatch(head, answers);
}

/**
 * All metrics of a step except the slowdown behind it; null for a step without work.
 * @param took durations of the step
 */
export function stepWork(
  plan: StepPlan,
  { draft, tokens }: Pick<StepResult, 'draft' | 'tokens'>,
  took: Pick<StepWork, 'ms' | 'cycleMs' | 'partMs'>,
  scheduler: Scheduler,
): Omit<StepWork, 'slowdown'> | null {
  const { chunks, rows, work } = plan;
  if (chunks.length + rows.length === 0) return null;
  const timeOf = (part: Work): number => predictMs(scheduler.model, part);
  const prefillTokens = chunks.reduce((sum, { prefilled }) => sum + prefilled, 0);
  // A draft gives the tokens of several plain steps.
  const further = draft === null ? 0 : Math.max(1, tokens.filter(({ isEnd }) => !isEnd).length) - 1;
  return {
    ...took,
    predictedMs: plan.predictedMs + further * timeOf({ ...work, prefill: [] }),
    prefillTokens,
    catchUpTokens: chunks.reduce((sum, { positions }) => sum + positions, -prefillTokens),
    exitMs: exitTimes(scheduler.options.shape, work, timeOf, took.ms),
    ...(draft !== null && plan.draft !== null && { draft: { source: plan.draft.source, ...draft } }),
  };
}

/**
 * Splits a step's time by exit. Prefill and decode share it in proportion to their predicted times; the rows of a
 * decode step share theirs in proportion to their exit layer.
 * @param cost predicted milliseconds of a part of the work
 * @returns milliseconds by exit, in the order of shape.exits; their sum is `ms`
 */
export function exitTimes(
  { exits }: DepthShape,
  { decode, prefill }: Work,
  cost: (part: Work) => number,
  ms: number,
): number[] {
  const depths = exits.map(({ layer }, exit) => layer * (decode?.rows[exit] ?? 0));
  const layerMs = cost({ decode, prefill: [] }) / Math.max(1, sum(depths));
  const chunksMs = (exit: number): number =>
    sum(prefill.map((part) => (part.exit === exit ? cost({ decode: null, prefill: [part] }) : 0)));
  const shares = depths.map((depth, exit) => depth * layerMs + chunksMs(exit));
  const total = sum(shares);
  return shares.map((share) => (total > 0 ? (ms * share) / total : 0));
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
