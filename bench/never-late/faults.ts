/** The faults of an upstream, as the requests of a bench meet them. */

/**
 * - `stall`: the stream stops behind some events for 30 s, and goes on. `refuse`: 503 at once. `hang`: no headers.
 * - `late`: the answer begins after 5 s. `crawl`: one event a second. `down`: the connection breaks at once.
 */
export const FAULTS = ['stall', 'refuse', 'hang', 'late', 'crawl', 'down'] as const;
export type Fault = (typeof FAULTS)[number];

/** Shares of requests by fault; the others have none. */
export const MIXES = {
  none: {},
  mixed: { stall: 0.1, refuse: 0.08, hang: 0.04, late: 0.04, crawl: 0.04 },
  outage: { down: 1 },
} as const satisfies Record<string, Readonly<Partial<Record<Fault, number>>>>;
export type Mix = keyof typeof MIXES;

export const isMix = (name: string): name is Mix => Object.hasOwn(MIXES, name);

/** The fault of a request; null for none. @param draw from 0 to 1 */
export function faultOf(mix: Mix, draw: number): Fault | null {
  const shares: Readonly<Partial<Record<Fault, number>>> = MIXES[mix];
  let sum = 0;
  for (const fault of FAULTS) {
    sum += shares[fault] ?? 0;
    if (draw < sum) return fault;
  }
  return null;
}
