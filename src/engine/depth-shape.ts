/** The shape of a model folder, as the cost model and the scheduler see it. */
import type { DepthShape, ExitShape } from './scheduler/cost/model.js';
import type { Manifest } from './model/manifest.js';
import type { LengthPrior } from './scheduler/output-length.js';

/**
 * An exit without a measured agreement counts with its share of the layers, and one without a measured accuracy with
 * its agreement against full depth's.
 */
export function depthShape({ stages, exits }: Pick<Manifest, 'stages' | 'exits'>): DepthShape {
  const deepest = exits.at(-1);
  const agreementOf = ({ layer, quality }: Manifest['exits'][number]): number =>
    quality.agreement ?? layer / (deepest?.layer ?? 1);
  const best = deepest === undefined ? 1 : agreementOf(deepest);
  const shapeOf = (exit: Manifest['exits'][number]): ExitShape => {
    const { layer, stage, block, quality } = exit;
    const accuracy = quality.accuracy ?? Math.min(1, agreementOf(exit) / best);
    const { accuracyByPrompt } = quality;
    const shape = { layer, stage, block: block?.name ?? null, accuracy };
    return accuracyByPrompt === undefined ? shape : { ...shape, accuracyByPrompt };
  };
  return { stages: stages.map(({ name }) => name), exits: exits.map(shapeOf) };
}

/** The lengths of answers by exit; null unless each exit has some. */
export function lengthPrior({ exits }: Pick<Manifest, 'exits'>): LengthPrior | null {
  const known = exits.flatMap(({ lengths }) =>
    lengths === undefined || lengths.chat.length === 0 ? [] : [lengths.chat],
  );
  return known.length < exits.length ? null : known;
}
