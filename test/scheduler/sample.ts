/** A measured-like cost table: the 30-layer w8a8 body of the embedded model on two cores, cut at its five exits. */
import type { CostPoint, CostTable, UnitCost } from '../../src/engine/scheduler/cost/table.js';
import { type CostModel, type DepthShape, costModel } from '../../src/engine/scheduler/cost/model.js';

export const layers = [10, 15, 20, 25, 30];
export const accuracy = [0.48, 0.77, 0.79, 0.84, 1];

/** Body of 30 layers, ms: [rows, ms] of decode at 256 positions, and [positions, ms] of prefill without a past. */
const decode = [
  [1, 3.7],
  [2, 4.3],
  [4, 5.4],
  [8, 7.7],
  [16, 12.2],
  [32, 21.5],
  [64, 40],
] as const;
const prefill = [
  [1, 3.7],
  [16, 7],
  [32, 10.5],
  [64, 17],
  [128, 30],
  [256, 66],
  [512, 152],
] as const;
const head = [
  [1, 1.4],
  [4, 2.4],
  [16, 6],
  [64, 22],
] as const;

function points(base: readonly (readonly [number, number])[], share: number, attention: number): CostPoint[] {
  return [0, 2048].flatMap((context) =>
    base.map(([rows, ms]) => ({ rows, context, ms: share * (ms + attention * rows * context) })),
  );
}

const body = (unit: string, share: number): UnitCost => ({
  ...{ unit, kernel: 'w8a8' },
  decode: points(decode, share, 0.0007),
  prefill: points(prefill, share, 0.00002),
});

export const shape: DepthShape = {
  stages: layers.map((layer) => `trunk-${layer}`),
  exits: layers.map((layer, stage) => ({
    ...{ layer, stage, block: null },
    ...{ accuracy: accuracy[stage] ?? NaN },
  })),
};

export const table: CostTable = {
  units: [
    ...layers.map((layer, i) => body(`trunk-${layer}`, (layer - (layers[i - 1] ?? 0)) / 30)),
    { unit: 'head', kernel: 'w8a8', decode: points(head, 1, 0), prefill: [] },
  ],
};

/** Exact model of the sample machine. */
export const sample: CostModel = costModel(table, shape);

/** The same machine with exit blocks: two layers of their own between four boundaries and the head. */
export const blockLayers = [8, 13, 18, 23, 30];

export const blockShape: DepthShape = {
  stages: blockLayers.map((layer) => `trunk-${layer}`),
  exits: blockLayers.map((layer, stage) => ({
    ...{ layer, stage, accuracy: accuracy[stage] ?? NaN },
    block: layer === 30 ? null : `block-${layer}`,
  })),
};

export const blockTable: CostTable = {
  units: [
    ...blockLayers.map((layer, i) => body(`trunk-${layer}`, (layer - (blockLayers[i - 1] ?? 0)) / 30)),
    ...blockShape.exits.flatMap(({ block }) => (block === null ? [] : [body(block, 2 / 30)])),
    { unit: 'head', kernel: 'w8a8', decode: points(head, 1, 0), prefill: [] },
  ],
};

export const blockSample: CostModel = costModel(blockTable, blockShape);
