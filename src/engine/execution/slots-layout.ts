/**
 * Runs a model whose KV cache has slots: chunks one by one, then the rows as one batch.
 *
 * The batch of a stage is a range of slots. Some rows of that range do not need the stage: another sequence's
 * prefill, a stored prefix, an empty slot, a shallower exit. Such a row computes garbage into the position of its own
 * frontier. This position lies beyond all valid ones, and is written again before it is read.
 */
import { DecodeRunner, PrefillRunner } from '../model/stage-runners.js';
import type { States } from '../model/head.js';
import { HeadRunner } from '../model/head-runner.js';
import type { Stage, StagedModel } from '../model/staged-model.js';
import { at } from '../../util/at.js';
import { type MemoryOp, SlotTable } from '../scheduler/kv/slot-table.js';
import { type ExitUnits, type Units, unitsOf } from '../scheduler/kv/units.js';
import type { KernelChoice } from './kernels.js';
import type { Layout, UnitRuns } from './layout.js';
import { type Frontier, frontierBehind, type Row, rowSpans, type Span, type StepBatch } from './step-batch.js';
import type { StepClock } from './step-clock.js';

/** A row of the batch, with its row in the head runner. */
interface HeadRow extends Row {
  readonly headRow: number;
}

/** A run of a batch: the kernels of its units, and the frontiers from which they begin. */
interface Run {
  readonly kernel: KernelChoice;
  readonly frontier: Frontier;
}

export class SlotsLayout implements Layout {
  readonly table: SlotTable;
  readonly head: HeadRunner;
  readonly mostPrefill = Infinity;
  readonly #model: StagedModel;
  readonly #units: Units<Stage>;
  readonly #prefill: PrefillRunner;
  readonly #decode: DecodeRunner;

  constructor(model: StagedModel) {
    this.#model = model;
    this.#units = unitsOf(model);
    this.table = new SlotTable(model.limits.slots, this.#units, model.bytesPerPosition);
    this.head = new HeadRunner(model);
    this.#prefill = new PrefillRunner(model);
    this.#decode = new DecodeRunner(model);
  }

  run(batch: StepBatch, kernel: KernelChoice, clock?: StepClock): void {
    const { chunks, rows, draft } = batch;
    for (const chunk of chunks) {
      clock?.enter('prefill');
      const reads = chunk.read !== undefined;
      const states = this.#advance(chunk, chunk.slot.tokens, reads, { kernel, frontier: frontierBehind([]) });
      if (states !== null) chunk.read?.(states);
    }
    if (rows.length === 0) return;
    const run = { kernel, frontier: frontierBehind(chunks) };
    clock?.enter('decode');
    if (draft === null) {
      this.#decodeRows(rows, run);
      clock?.enter('head');
      this.head.logits(rows.length);
      return;
    }
    // The last token and the draft of the only row run as one chunk.
    const ahead = draft.tokens.length;
    for (const span of rowSpans(batch)) {
      const states = this.#advance(span, [...span.slot.tokens, ...draft.tokens], true, run);
      clock?.enter('head');
      states?.toHead(span.end - ahead - 1, ahead + 1);
    }
  }

  apply(ops: readonly MemoryOp[]): void {
    const { stages } = this.#units;
    const { boundaries } = this.#model;
    for (const op of ops)
      switch (op.op) {
        case 'copy':
          for (const { of, start, end } of op.units) stages[of]?.kv.copy(op.from, op.to, start, end);
          for (const { of, start, end } of op.boundaries) boundaries[of]?.copy(op.from, op.to, start, end);
          break;
        case 'release':
          for (const { kv } of stages) kv.releasePages(op.slot, op.kept);
          for (const store of boundaries) store?.releasePages(op.slot, op.kept);
          break;
      }
  }

  wait(): void {
    // Every call has run to its end.
  }

  readonly alone: UnitRuns = {
    rows: (unit, kernel, rows, context) => {
      this.#decode.pasts.fill(context, 0, rows);
      if (unit < this.#units.trunkStages) this.#decode.stage(unit, kernel, 0, rows, context);
      else this.#decode.block(at(this.#units.stages, unit), kernel, 0, rows, context);
    },
    chunk: (unit, kernel, context, positions) => {
      const runner = this.#prefill;
      const stage = at(this.#units.stages, unit);
      if (stage.keys !== undefined) runner.keys(stage, kernel, 0, context, positions, runner.scratch(0));
      else runner.stage(stage, kernel, 0, context, positions, runner.scratch(0), runner.scratch(1));
    },
    embed: (rows) => {
      this.#decode.embed(0, rows);
    },
    head: (rows) => {
      this.head.inverseTemperatures.fill(1, 0, rows);
      this.head.logits(rows);
      this.head.select(0, rows);
    },
  };

  dispose(): void {
    this.head.dispose();
    this.#decode.dispose();
    this.#model.dispose();
  }

  /**
   * Runs every unit that the span's exit needs up to its end: a chunk, a catch-up or a verification.
   * @param tokens those of the slot up to the end of the span, at least
   * @param reads whether the states are read. Otherwise layers behind a prompt exit make their keys and values alone.
   * @returns the exit's states of the positions that its last unit processed; null where no unit lacked any, or made
   * keys alone
   */
  #advance({ slot, exit, end }: Span, tokens: readonly number[], reads: boolean, run: Run): States | null {
    const runner = this.#prefill;
    const length = run.frontier(slot, exit.needed[0] ?? 0);
    let states: States | null = null;
    /** Address of the states that the previous stage just wrote, and their first position. */
    let fresh: { address: bigint; start: number } | null = null;
    if (end > length) {
      fresh = { address: runner.scratch(0), start: length };
      runner.embed(tokens.slice(length, end), fresh.address);
    }
    for (const unit of exit.needed) {
      const start = run.frontier(slot, unit);
      const count = end - start;
      if (count <= 0) continue;
      const stage = at(this.#units.stages, unit);
      const { boundary } = stage.entry;
      const isBlock = unit >= this.#units.trunkStages;
      const isHere = fresh?.start === start && !(isBlock && this.#model.boundaries[boundary]);
      const input = isHere && fresh ? fresh.address : this.#stored(boundary, slot.index, start);
      const kernel = run.kernel(unit, 'prefill', count, start);
      states = null;
      if (stage.keys !== undefined && !reads) {
        runner.keys(stage, kernel, slot.index, start, count, input);
        continue;
      }
      const isStored = !isBlock && this.#mustStore(exit, unit, run.frontier(slot, unit + 1) !== start);
      const address = isStored ? this.#stored(boundary + 1, slot.index, start) : runner.scratch(boundary + 1);
      runner.stage(stage, kernel, slot.index, start, count, input, address);
      if (!isBlock) fresh = { address, start };
      states = this.#statesAt(exit.norm, address, start, end);
    }
    return states;
  }

  /**
   * Whether a trunk stage's output must survive the call: an exit block reads its boundary, or the next stage does
   * not process the same positions right away.
   */
  #mustStore(exit: ExitUnits, stage: number, isNextApart: boolean): boolean {
    const boundary = stage + 1;
    if (!this.#model.boundaries[boundary]) return false;
    return this.#units.blockBoundaries.has(boundary) || stage === exit.stage || isNextApart;
  }

  /** States of positions [start, end) that lie one behind the other in memory. */
  #statesAt(norm: number, address: bigint, start: number, end: number): States {
    const { hiddenBytes, device } = this.#model;
    const at = (position: number): bigint => address + BigInt((position - start) * hiddenBytes);
    return {
      start,
      end,
      toHead: (first, rows) => {
        this.head.logitsOf(at(first), rows, norm);
      },
      read: (position) => {
        const state = new Float32Array(hiddenBytes / 4);
        device.download(at(position), new Uint8Array(state.buffer));
        return state;
      },
    };
  }

  /** Address of a stored hidden state. */
  #stored(boundary: number, slot: number, position: number): bigint {
    const store = this.#model.boundaries[boundary];
    if (!store) throw new RangeError(`boundary ${boundary} has no hidden-state cache`);
    return store.address(slot, position);
  }

  /** Runs one position of each row, and leaves the state and the norm of rows[i] as row i of the head runner. */
  #decodeRows(batch: readonly Row[], run: Run): void {
    const runner = this.#decode;
    const rows = batch.map((row, headRow): HeadRow => ({ ...row, headRow }));
    const whole = rangeOf(rows);
    runner.ids.fill(0n, whole.first, whole.first + whole.count);
    for (const { slot } of rows) {
      const token = slot.tokens.at(-1);
      if (token === undefined) throw new RangeError(`slot ${slot.index} has no token to decode`);
      runner.ids[slot.index] = BigInt(token);
    }
    runner.embed(whole.first, whole.count);
    for (let stage = 0; stage < this.#units.trunkStages; stage++) {
      const here = rows.filter(({ exit }) => exit.stage >= stage);
      if (here.length === 0) break;
      const { first, count } = rangeOf(here);
      const longest = this.#setPasts(stage, first, count, run);
      runner.stage(stage, run.kernel(stage, 'decode', count, longest), first, count, longest);
      this.#store(here, stage, run);
      const leaving = here.filter(({ exit }) => exit.stage === stage);
      for (const block of new Set(leaving.map(({ exit }) => exit.block)))
        this.#leave(
          block,
          leaving.filter(({ exit }) => exit.block === block),
          run,
        );
    }
    for (const { exit, headRow } of rows) this.head.norms[headRow] = BigInt(exit.norm);
  }

  /** Stores the states that an exit block or a deeper exit reads later. */
  #store(rows: readonly Row[], stage: number, { frontier }: Run): void {
    const { boundaries, device, hiddenBytes } = this.#model;
    const store = boundaries[stage + 1];
    if (!store) return;
    for (const { slot, exit } of rows)
      if (this.#units.blockBoundaries.has(stage + 1) || exit.stage === stage)
        device.copy(
          store.address(slot.index, frontier(slot, stage)),
          this.#decode.hidden(stage + 1, slot.index),
          hiddenBytes,
        );
  }

  /** Takes the rows that leave one boundary by one way to the head: through an exit block, or without one. */
  #leave(block: number | null, rows: readonly HeadRow[], run: Run): void {
    const runner = this.#decode;
    if (block !== null) {
      const { first, count } = rangeOf(rows);
      const longest = this.#setPasts(block, first, count, run);
      runner.block(at(this.#units.stages, block), run.kernel(block, 'decode', count, longest), first, count, longest);
    }
    for (const { slot, exit, headRow } of rows) {
      const state = block === null ? runner.hidden(exit.stage + 1, slot.index) : runner.blockOutput(slot.index);
      this.#model.device.copy(this.head.input(headRow), state, this.#model.hiddenBytes);
    }
  }

  /** Writes each row's past for a unit, which is its own frontier there. @returns the longest */
  #setPasts(unit: number, first: number, count: number, { frontier }: Run): number {
    let longest = 0;
    for (let row = first; row < first + count; row++) {
      const past = frontier(at(this.table.slots, row), unit);
      this.#decode.pasts[row] = past;
      longest = Math.max(longest, past);
    }
    return longest;
  }
}

/** The range of slots from the first to the last row. */
function rangeOf(rows: readonly Row[]): { readonly first: number; readonly count: number } {
  const indices = rows.map(({ slot }) => slot.index);
  const first = Math.min(...indices);
  return { first, count: Math.max(...indices) - first + 1 };
}
