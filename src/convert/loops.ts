/** Looped models: their exits, and their stages, which run one graph. */
import type { Architecture } from '../engine/model/architecture.js';
import type { StageEntry } from '../engine/model/manifest.js';
import { UsageError } from './conversion-error.js';

/**
 * The layers that run for a token after each loop.
 * @param asked loops 1 to n; null: all loops of the model
 * @throws UsageError
 */
export function loopExits(asked: readonly number[] | null, { layers, loops }: Architecture): number[] {
  const most = loops?.count ?? 1;
  const listed = asked ?? Array.from({ length: most }, (_, i) => i + 1);
  const beyond = listed.find((loop) => loop > most);
  if (beyond !== undefined)
    throw new UsageError(
      `--exits of a looped model must be at most its ${most} loops (total_ut_steps or num_loops), got ${beyond}`,
    );
  if (listed.length === 0 || listed.some((loop, i) => loop !== i + 1))
    throw new UsageError(
      `--exits of a looped model must be its loops from 1 on without a gap, such as 1,2, got ${listed.join(',')}`,
    );
  return listed.map((loop) => loop * layers);
}

/**
 * The published accuracy of a loop, as a share of that of the deepest loop that is kept.
 * @param published by loop of the source, of as many loops
 * @param kept loops of the folder
 * @returns undefined for a source without figures, or with other loops
 */
export function publishedAccuracy(
  published: readonly number[] | null,
  { loops }: Architecture,
  kept: number,
  loop: number,
): number | undefined {
  if (published?.length !== loops?.count) return undefined;
  const deepest = published?.[kept - 1] ?? 0;
  const accuracy = published?.[loop - 1];
  return accuracy === undefined || deepest === 0 ? undefined : Number((accuracy / deepest).toFixed(3));
}

/** The stages of a graph that runs once for each loop. */
export function loopStages(graph: StageEntry, loops: number): StageEntry[] {
  return Array.from({ length: loops }, (_, i) => ({ ...graph, name: `loop-${i + 1}`, boundary: i }));
}

/** The architecture of a folder with these loops, which may be fewer than the source's. */
export function withLoops(arch: Architecture, count: number): Architecture {
  return arch.loops === undefined ? arch : { ...arch, loops: { ...arch.loops, count } };
}

/** Exit blocks would branch from single loops, which no published model has. @throws UsageError */
export function rejectBlocks({ loops }: Architecture, file: string | undefined): void {
  if (loops === undefined || file === undefined) return;
  throw new UsageError(`--exit-blocks can't be combined with a looped model, got ${file}`);
}
