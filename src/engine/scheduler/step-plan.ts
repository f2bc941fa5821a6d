/**
 * The plan of a step: all that it does, as plain data that prints as JSON. A plan names sequences by id, slots by index
 * and exits by index.
 */
import type { Work } from './cost/model.js';
import type {
  ArmedEvent,
  DraftSource,
  EndReason,
  ExitIndex,
  PlannedEvent,
  RejectedEvent,
} from '../../protocol/index.js';
import type { MemoryOp } from './kv/slot-table.js';
import type { LandingWindow } from './types.js';

export interface StepPlan {
  readonly at: number;
  /** Requests that get a place in the queue, and plans of dry runs. */
  readonly admitted: readonly PlannedEvent[];
  /** Nets that sleep from here on; absent: none. */
  readonly armed?: readonly ArmedEvent[];
  readonly rejected: readonly RejectedEvent[];
  /** Sequences that end before the step: dry runs, cancelled ones, failed or complete grammars, deadlines. */
  readonly ended: readonly SequenceEnd[];
  /** Copies and releases of slots' memory, in order, before anything runs. */
  readonly memory: readonly MemoryOp[];
  /** In the order in which they run. */
  readonly chunks: readonly ChunkPlan[];
  /** The rows that decode behind the chunks. */
  readonly rows: readonly RowPlan[];
  /** For the only row; null for none. */
  readonly draft: DraftPlan | null;
  /** The work that the costs predict. */
  readonly work: Work;
  readonly predictedMs: number;
  readonly landing: LandingPace;
}

/** The pace of a step, by which answers land. */
export interface LandingPace {
  /** When the rows decode: behind the chunks. */
  readonly decodesAt: number;
  /** Milliseconds until each next token, prompts that are to be expected included. */
  readonly tokenMs: number;
}

export interface SequenceEnd {
  readonly id: string;
  readonly reason: EndReason;
  /** End pressure chose the end. */
  readonly hasLanded?: boolean;
  readonly isDryRun?: boolean;
}

/** A part of a prompt, or a catch-up. */
export interface ChunkPlan {
  readonly id: string;
  readonly slot: number;
  readonly exit: ExitIndex;
  /** First position that the chunk leaves out. */
  readonly end: number;
  /** Positions of the unit that lacks most. */
  readonly positions: number;
  /** Those of them that the first stage lacks; the other units catch up over the rest. */
  readonly prefilled: number;
}

/** A sequence that decodes its next token. */
export interface RowPlan {
  readonly id: string;
  readonly slot: number;
  readonly exit: ExitIndex;
  /** When the answer ends early; null where its budget or its text allows no landing. */
  readonly window: LandingWindow | null;
}

/** A draft of the next tokens: its text, or that of fewer loops, which the gate of a looped model chooses. */
export type DraftPlan =
  | { readonly source: Exclude<DraftSource, 'exit'>; readonly tokens: readonly number[] }
  | { readonly source: 'exit'; readonly most: number };

/** The outcome of a step. */
export interface StepResult {
  /** End of the run. */
  readonly at: number;
  /** Time of the step, with the time since the previous one: the costs learn this figure. */
  readonly cycleMs: number;
  /** The planning in it. */
  readonly planningMs: number;
  /** In the order of a sequence's tokens; several of one sequence behind a draft. */
  readonly tokens: readonly TokenResult[];
  /** The draft that was verified; null for none. */
  readonly draft: { readonly drafted: number; readonly accepted: number } | null;
}

/** The next token of a sequence. */
export interface TokenResult {
  readonly id: string;
  readonly token: number;
  /** The token ends the answer, and is no part of it. */
  readonly isEnd: boolean;
  /** End pressure chose the end. */
  readonly hasLanded?: boolean;
  /** Whether the text may end behind the token; null for a token outside of the answer's own text. */
  readonly mayEnd: boolean | null;
}
