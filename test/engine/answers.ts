/** Answers without an engine. */
import { Answer } from '../../src/engine/answer.js';
import type { Constraint } from '../../src/engine/constraint.js';
import type { SequenceRequest } from '../../src/protocol/index.js';
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
