/**
 * A layout runs a model's units for the executor. One implementation has a KV cache in slots, one a KV cache in pages.
 */
import type { Head } from '../model/head.js';
import type { StageKernel } from '../model/manifest.js';
import type { MemoryOp, SlotTable } from '../scheduler/kv/slot-table.js';
import type { KernelChoice } from './kernels.js';
import type { StepBatch } from './step-batch.js';
import type { StepClock } from './step-clock.js';

export interface Layout {
  readonly table: SlotTable;
  readonly head: Head;
  /** Most positions of chunks in a batch; infinite where chunks run one by one. */
  readonly mostPrefill: number;
  readonly alone: UnitRuns;
  /** Runs a batch, and leaves the logits of its rows in the head. It moves no frontier. */
  run(batch: StepBatch, kernel: KernelChoice, clock?: StepClock): void;
  /** Copies and releases the memory of slots, in order. */
  apply(ops: readonly MemoryOp[]): void;
  /** Waits until all runs are done. */
  wait(): void;
  dispose(): void;
}

/** Runs of single units, whose time alone counts. */
export interface UnitRuns {
  /** Runs one unit over `rows` single positions as if each sequence held `context` positions. */
  rows(unit: number, kernel: StageKernel, rows: number, context: number): void;
  /** Runs one unit over a chunk of one sequence as if it held `context` positions. */
  chunk(unit: number, kernel: StageKernel, context: number, positions: number): void;
  embed(rows: number): void;
  /** Computes logits, and selects the values that sampling reads. */
  head(rows: number): void;
}
