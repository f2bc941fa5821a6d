/**
 * The work of a step, with the slots that it runs on. The executor runs it on either layout of the KV cache. Then
 * `commit` moves the frontiers behind it.
 *
 * Must not know: requests, sampling, layouts.
 */
import type { States } from '../model/head.js';
import type { Slot, ExitUnits } from '../scheduler/kv/units.js';

/** The positions of a slot up to `end` that the units of an exit lack. */
export interface Span {
  readonly slot: Slot;
  readonly exit: ExitUnits;
  /** First position that the span leaves out; at most one chunk beyond the least frontier of those units. */
  readonly end: number;
}

/** A part of a prompt, or a catch-up. A slot has one at most, and its row has the same exit. */
export interface Chunk extends Span {
  /** Reads the exit's states of the chunk. They are valid until the model runs again. */
  readonly read?: ((states: States) => void) | undefined;
}

/** A sequence that decodes: behind the chunks, the units of its exit lack its last token only. */
export type Row = Omit<Span, 'end'>;

export interface StepBatch {
  /** In the order in which they run. */
  readonly chunks: readonly Chunk[];
  /** Row i leaves its logits in row i of the head. */
  readonly rows: readonly Row[];
  /** Tokens behind those of the only row. Row i of the head then has the logits behind i of them. Null: none. */
  readonly draft: { readonly tokens: readonly number[] } | null;
}

/** Positions that a unit of a slot has processed. */
export type Frontier = (slot: Slot, unit: number) => number;

/** A batch of chunks alone. */
export function chunksOnly(...chunks: readonly Chunk[]): StepBatch {
  return { chunks, rows: [], draft: null };
}

/** The span of each row, through its last token or its draft. */
export function rowSpans({ rows, draft }: StepBatch): Span[] {
  const ahead = draft?.tokens.length ?? 0;
  return rows.map(({ slot, exit }) => ({ slot, exit, end: slot.tokens.length + ahead }));
}

/** The frontiers from which the rows of a batch begin: those behind its chunks. */
export function frontierBehind(chunks: readonly Chunk[]): Frontier {
  const bySlot = new Map(chunks.map((chunk) => [chunk.slot, chunk]));
  return (slot, unit) => {
    const chunk = bySlot.get(slot);
    const frontier = slot.frontier(unit);
    return chunk?.exit.needed.includes(unit) === true ? Math.max(frontier, chunk.end) : frontier;
  };
}

/** Moves the frontiers behind spans that have run. */
export function commit(spans: readonly Span[]): void {
  for (const { slot, exit, end } of spans)
    for (const unit of exit.needed) if (slot.frontier(unit) < end) slot.reach(unit, end);
}
