/** Answers without an engine. */
import { Answer } from '../../src/engine/answer.js';
import type { Constraint } from '../../src/engine/constraint.js';
import type { Sampling, SequenceRequest } from '../../src/protocol/index.js';
import { sampleAll } from '../../src/engine/sampling/sample-row.js';
import { adjust, type TokenCounts } from '../../src/engine/sampling/sampler.js';
import { type ExitUnits, unitsOf } from '../../src/engine/scheduler/kv/units.js';
import { Sequence } from '../../src/engine/scheduler/sequence.js';

/** The exits of a model with a stage for each layer, and an exit behind each. */
export function exitsAt(...layers: readonly number[]): readonly ExitUnits[] {
  return unitsOf({
    stages: layers.map((_, boundary) => ({ entry: { layers: 1, boundary } })),
    exits: layers.map((layer, stage) => ({ entry: { layer, stage, norm: 0 }, block: null })),
  }).exits;
}

export function answerOf(
  request: SequenceRequest,
  exits: readonly ExitUnits[] = exitsAt(request.depth.maxExit),
  constraint: Constraint | null = null,
): Answer {
  return new Answer(new Sequence(request, exits, constraint), constraint);
}

/** Samples from all logits of a row, which change in place. @returns null if no token is possible */
export function sampleFull(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  return sampleAll(logits, sampling, u, null);
}

// Constraints for tests, without a grammar.

/** @param mask 1 for each allowed token id; null: the mask is still to come */
export function constraintOf(mask: Uint8Array | null): Constraint {
  return {
    mask,
    enforced: true,
    released: false,
    complete: false,
    failed: null,
    accept: () => undefined,
    close: () => undefined,
  };
}
