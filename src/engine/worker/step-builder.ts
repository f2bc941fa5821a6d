/**
 * Builds the batch of a step: chunks, the rows that decode behind them, and the draft of a row that is alone.
 *
 * Must not know: admission, how a batch runs.
 */
import type { States } from '../../model/head.js';
import type { Work } from '../../cost/model.js';
import type { PrefillChunk } from '../../scheduler/router.js';
import type { StepClock } from '../execution/step-clock.js';
import { scorePrompt } from '../sampling/prompt-scores.js';
import { isPlainGreedy } from '../sampling/sample-batch.js';
import type { Sequence } from '../../scheduler/sequence.js';
import type { Draft } from '../speculation/speculation.js';
import type { Drafting } from './drafting.js';
import type { Landings } from './landings.js';
import { type PrefillParts, type PrefillTask, selectPrefill } from '../../scheduler/chunks.js';
import type { StepOutput } from './step-output.js';
import { decodeWork, type Step } from './step-stats.js';

interface StepParts extends PrefillParts {
  readonly landings: Landings;
  readonly drafting: Drafting;
  readonly output: StepOutput;
  readonly clock: StepClock;
}

/** The work that a step has selected, not yet a batch. */
export interface Selection {
  readonly tasks: readonly PrefillTask[];
  readonly paused: ReadonlySet<string>;
  readonly work: Work;
}

export class StepBuilder {
  constructor(private readonly parts: StepParts) {}

  /** The chunks of a step, and the rows that can decode behind them. @param paused ids of the sequences that do not decode */
  select(planned: readonly PrefillChunk[], paused: ReadonlySet<string>): Selection {
    const tasks = selectPrefill(planned, this.parts);
    return { tasks, paused, work: this.#workOf(tasks, this.#decoding(tasks, paused)) };
  }

  /** The batch of the selected sequences that are not over. */
  build({ tasks, paused }: Omit<Selection, 'work'>, now: number): Step {
    const { executor, router, landings } = this.parts;
    const chunks = tasks.filter(({ sequence }) => !sequence.isOver).map((task) => this.#scored(task));
    const decoding = this.#decoding(chunks, paused);
    const work = this.#workOf(chunks, decoding);
    // The rows decode behind the chunks.
    const decodesAt = chunks.length === 0 ? now : now + router.predictMs({ ...work, decode: null });
    landings.begin(decoding, decodesAt, () => router.predictMs({ ...work, prefill: [] }));
    decoding.sort((a, b) => Number(isPlainGreedy(b)) - Number(isPlainGreedy(a)));
    const [lone] = decoding;
    const draft = lone !== undefined && decoding.length === 1 ? this.#draft(lone, decodesAt) : null;
    const rows = decoding.flatMap((sequence) => {
      const { slot, exit } = sequence;
      return slot === null ? [] : { sequence, slot, exit: executor.exit(exit) };
    });
    return { startedAt: now, chunks, rows, draft, work };
  }

  #workOf(chunks: readonly PrefillTask[], decoding: readonly Sequence[]): Work {
    return { decode: decodeWork(decoding, this.parts.router.shape), prefill: chunks.flatMap(({ work }) => work) };
  }

  /** The runs of a shallower exit that drafts are decoding, whenever they happen. */
  #draft(sequence: Sequence, now: number): Draft | null {
    const { clock, drafting } = this.parts;
    return clock.run('decode', () => drafting.draft(sequence, now));
  }

  /** The sequences that decode behind these chunks. */
  #decoding(chunks: readonly PrefillTask[], paused: ReadonlySet<string>): Sequence[] {
    const { slotManager, executor } = this.parts;
    const completed = new Set<Sequence>();
    for (const { sequence, end } of chunks) if (end >= sequence.tokens.length - 1) completed.add(sequence);
    return slotManager.running.filter((each) => {
      if (paused.has(each.id) || each.request.maxTokens === 0 || each.awaitsMask) return false;
      return completed.has(each) || each.isDecodable(executor.exit(each.exit).needed);
    });
  }

  /** The same chunk, with its states read where the client asks for the log-probabilities of its prompt. */
  #scored(task: PrefillTask): PrefillTask {
    const { sequence } = task;
    if (sequence.request.promptLogprobs === null) return task;
    const { executor, output } = this.parts;
    const read = (states: States): void => {
      scorePrompt(executor.head, executor.model.limits.maxRows, sequence, states, output.prompts);
    };
    return { ...task, read };
  }
}
