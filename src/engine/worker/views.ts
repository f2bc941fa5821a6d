/**
 * The engine in the router's terms: sequences as plain data.
 *
 * Must not know: slots' memory, sampling.
 */
import { type DepthShape, at } from '../../cost/model.js';
import type { EngineState, SequenceView } from '../../scheduler/router.js';
import { landingPlan } from '../../protocol/early-end.js';
import type { Sequence } from '../../scheduler/sequence.js';

/** The engine at the beginning of a step. */
export interface StepContext extends Omit<EngineState, 'live' | 'waiting'> {
  readonly live: readonly Sequence[];
  readonly waiting: readonly Sequence[];
}

export function stateOf({ live, waiting, ...rest }: StepContext, shape: DepthShape): EngineState {
  const views = (sequences: readonly Sequence[]) => sequences.map((sequence) => viewOf(sequence, shape));
  return { ...rest, live: views(live), waiting: views(waiting) };
}

/**
 * A sequence as plain data, with or without a slot. Built field by field: a spread object is slow to create and slow to
 * read, and took half of the planning time.
 */
export function viewOf(sequence: Sequence, shape: DepthShape): SequenceView {
  const { request, admission } = sequence;
  const { minExit, maxExit, budget, openExit, quality } = request.depth;
  const frontier = frontierOf(shape, (unit) => sequence.frontier(unit));
  const mayEnd = request.stopTokens.length > 0 || (request.grammar?.kind ?? 'free') !== 'free';
  return {
    id: sequence.id,
    arrivedAt: request.arrivedAt,
    promptLength: sequence.promptLength,
    generated: sequence.generated,
    maxTokens: request.maxTokens,
    isExactLength: !mayEnd,
    lands: landingPlan(request) === 'possible',
    sentenceTokens: sequence.text.tokens,
    lengthGroup: request.lengthGroup,
    tenant: request.tenant ?? '',
    serviceClass: admission?.kind === 'admit' ? admission.serviceClass : 'guaranteed',
    exit: at(shape.exits, sequence.exit).layer,
    minExit,
    // While it thinks, the rest of the answer is planned at the exits of the thoughts.
    maxExit: Math.min(maxExit, sequence.thinkingExit ?? maxExit),
    budget,
    ...(openExit !== undefined && { openExit }),
    ...(quality && { quality }),
    frontier,
    expectedFrontier:
      sequence.leader === null ? frontier : frontierOf(shape, (unit) => sequence.expectedFrontier(unit)),
    firstTokenAt: sequence.firstTokenAt,
    lastTokenAt: sequence.lastTokenAt,
    ...(request.isDryRun === true && { isDryRun: true }),
  };
}

/** Positions by stage, then by exit (RequestView). */
function frontierOf({ stages, exits }: DepthShape, positions: (unit: number) => number): number[] {
  const frontier: number[] = [];
  for (let stage = 0; stage < stages.length; stage++) frontier.push(positions(stage));
  let block = stages.length;
  for (const exit of exits) frontier.push(exit.block === null ? 0 : positions(block++));
  return frontier;
}
