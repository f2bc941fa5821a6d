/** The memory of slots of equal size: it follows the operations of their account (scheduler/kv/slot-account.ts). */
import type { Stage, StagedModel } from '../model/staged-model.js';
import type { MemoryOp } from '../scheduler/kv/kv-account.js';
import type { PositionBytes } from '../scheduler/kv/slot-account.js';
import type { Units } from '../scheduler/kv/units.js';

/** Bytes that a position of a sequence takes in a model. */
export function positionBytes({ boundaries, hiddenBytes }: StagedModel, { stages }: Units<Stage>): PositionBytes {
  return {
    units: stages.map(({ kv }) => kv.bytesPerPosition),
    boundaries: boundaries.map((store) => (store === null ? 0 : hiddenBytes)),
  };
}

/** Copies, exchanges and releases memory, in the order of the operations. */
export function applyMemory({ boundaries }: StagedModel, { stages }: Units<Stage>, ops: readonly MemoryOp[]): void {
  for (const op of ops)
    switch (op.op) {
      case 'copy':
        for (const { of, start, end } of op.units) stages[of]?.kv.copy(op.from, op.to, start, end);
        for (const { of, start, end } of op.boundaries) boundaries[of]?.copy(op.from, op.to, start, end);
        break;
      case 'release':
        for (const { kv } of stages) kv.releasePages(op.slot, op.from);
        for (const store of boundaries) store?.releasePages(op.slot, op.from);
        break;
      case 'swap':
        stages.forEach(({ kv }, unit) => {
          kv.swap(op.a, op.b, op.aPositions[unit] ?? 0, op.bPositions[unit] ?? 0);
        });
        for (const store of boundaries) store?.swap(op.a, op.b, op.aPositions[0] ?? 0, op.bPositions[0] ?? 0);
        break;
    }
}
