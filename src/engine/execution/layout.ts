/**
 * A layout runs a model's units for the engine. One implementation has a KV cache in slots, one a KV cache in pages.
 *
 * A layout may collect the work of a step and run it in one batch. `toHead`, `decode` with the head's results, and
 * `settle` make it run.
 */
import type { Head } from '../../model/head.js';
import type { StageKernel } from '../../model/manifest.js';
import type { SlotTable } from '../slots/slot-table.js';
import type { Slot } from '../slots/slot.js';
import type { DecodeRow } from './run-decode.js';
import type { KernelChoice, PrefillResult } from './run-prefill.js';
import type { ExitUnits } from './units.js';

export interface Layout {
  readonly table: SlotTable;
  readonly head: Head;
  /** Most positions of prompts that run together with the rows of a step; infinite where chunks run one by one. */
  readonly mostPrefill: number;
  /** See run-prefill.ts. */
  advance(slot: Slot, exit: ExitUnits, end: number, kernel: KernelChoice): PrefillResult;
  /**
   * Runs one position of each row, and leaves the logits of row i as row i of the head.
   * @returns number of valid rows that each trunk stage ran
   */
  decode(rows: readonly DecodeRow[], kernel: KernelChoice): number[];
  /** Runs collected work, and waits until all work is done. */
  settle(): void;
  /** Runs one unit over `rows` single positions as if each sequence held `context` positions. */
  runRows(unit: number, kernel: StageKernel, rows: number, context: number): void;
  /** Runs one unit over a chunk of one sequence as if it held `context` positions. */
  runChunk(unit: number, kernel: StageKernel, context: number, positions: number): void;
  runEmbed(rows: number): void;
  /** Computes logits, and selects the values that sampling reads. */
  runHead(rows: number): void;
  /** Takes the memory of all later steps. @throws Error if the device has too little */
  reserve(): void;
  dispose(): void;
}
