/** Arrival times of open load: a Poisson process, or bursts. */

export type Arrivals = 'poisson' | 'bursts';

/** Requests per burst; bursts are a Poisson process at the same mean rate of requests. */
const BURST_REQUESTS = 8;

/** Times of arrival in ms from the start, at a mean rate of `perSecond`. */
export function arrivalTimes(count: number, perSecond: number, arrivals: Arrivals, random: () => number): number[] {
  const size = arrivals === 'bursts' ? BURST_REQUESTS : 1;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    if (i % size === 0) at += (-Math.log(1 - random()) * 1000 * size) / perSecond;
    return at;
  });
}
