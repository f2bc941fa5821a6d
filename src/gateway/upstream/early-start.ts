/**
 * Whether a net starts beside its upstream at once. Its objective is the router's: expected right answers in time.
 * An early local answer has time for a deeper exit than one at the latest start. It costs the engine's time, which is
 * lost if the sentence of the upstream comes. Pure.
 */

/** An exit of the local model. */
export interface ExitAccuracy {
  readonly layer: number;
  /** Share of right answers. */
  readonly accuracy: number;
}

/** Right answers that the engine's time of an answer is worth while nothing else runs, as a share of its own. */
const IDLE_PRICE = 0.1;

/**
 * The most right answers of an exit whose first sentence fits. The time of a sentence grows with the layers.
 * @param exits that the answer may have, shallowest first
 * @param sentenceMs at the shallowest one
 */
export function accuracyWithin(exits: readonly ExitAccuracy[], sentenceMs: number, roomMs: number): number {
  const [shallowest] = exits;
  if (shallowest === undefined) return 0;
  const fitting = exits.filter(({ layer }) => (sentenceMs * layer) / shallowest.layer <= roomMs);
  return Math.max(shallowest.accuracy, ...fitting.map(({ accuracy }) => accuracy));
}

export interface Chances {
  /** Share of right answers of the upstream, of an early local answer, and of one at the latest start. */
  readonly upstream: number;
  readonly early: number;
  readonly late: number;
  /** Probability that the upstream has a sentence before an early local one is whole, and before a late one is. */
  readonly chanceEarly: number;
  readonly chanceLate: number;
  /** Share of the engine's slots that other answers have. */
  readonly busy: number;
}

/**
 * - `latest`: at the latest start. `ahead`: at once, and its text waits as long as that of a late start.
 * - `rival`: at once, and its text goes out with its first sentence: the upstream is right less often.
 */
export type NetStart = 'latest' | 'ahead' | 'rival';

export function netStart({ upstream, early, late, chanceEarly, chanceLate, busy }: Chances): NetStart {
  const start = upstream < early ? 'rival' : 'ahead';
  const chance = start === 'rival' ? chanceEarly : chanceLate;
  const atOnce = chance * upstream + (1 - chance) * early;
  const atLatest = chanceLate * upstream + (1 - chanceLate) * late;
  const price = chance * early * Math.max(IDLE_PRICE, busy);
  return atOnce - atLatest > price ? start : 'latest';
}
