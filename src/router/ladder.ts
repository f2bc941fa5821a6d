/**
 * Which exits are worth going to: the upper hull of quality over cost.
 *
 * Knows: exits, what their steps cost. Must not know: requests, deadlines.
 *
 * An exit below the hull is worth less than a mix of its neighbours on it: for the same milliseconds, some requests at
 * the deeper one and some at the shallower one have more quality in sum.
 */
import { type Levels, tokenMs } from './levels.js';
import type { DepthShape } from './types.js';

/** Exits above `from`, up to `to`, by rising depth: each buys less per millisecond than the one before. */
export function rungsOf({ exits }: DepthShape, levels: Levels, from: number, to: number): number[] {
  const cost = (exit: number): number => tokenMs(levels, exit);
  const quality = (exit: number): number => exits[exit]?.quality ?? 0;
  const rungs: number[] = [];
  for (let at = from; at < to;) {
    let best = at;
    let most = 0;
    for (let exit = at + 1; exit <= to; exit += 1) {
      const gain = (quality(exit) - quality(at)) / Math.max(1e-9, cost(exit) - cost(at));
      if (gain >= most && quality(exit) > quality(at)) {
        best = exit;
        most = gain;
      }
    }
    if (best === at) break;
    rungs.push(best);
    at = best;
  }
  return rungs;
}
