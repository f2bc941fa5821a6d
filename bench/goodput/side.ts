/** The sides that are compared: which server each asks, and how it asks for its depth. Must not know: processes, load. */
export interface Side {
  readonly name: string;
  /** Sides with the same start share a server. */
  readonly start: 'sortie' | 'peer';
  /** Headers of a request with that total budget. */
  readonly headers: (budgetMs: number) => Record<string, string>;
}

/**
 * Sortie with the budget (ending late, or cut at the deadline), Sortie pinned to a depth, and where it is there the peer,
 * which knows of neither.
 */
export function sidesOf(exits: readonly number[], withPeer: boolean): Side[] {
  const routed: Side = {
    name: 'routed',
    start: 'sortie',
    headers: (budgetMs) => ({ 'x-latency-budget-ms': String(Math.round(budgetMs)) }),
  };
  const truncated: Side = {
    name: 'truncate',
    start: 'sortie',
    headers: (budgetMs) => ({ ...routed.headers(budgetMs), 'x-budget-on-miss': 'truncate' }),
  };
  const fixed = exits.map((layer): Side => ({
    name: `fixed ${layer}`,
    start: 'sortie',
    headers: () => ({ 'x-exit-layer': String(layer) }),
  }));
  const peer: Side = { name: 'llama-server', start: 'peer', headers: () => ({}) };
  return [routed, truncated, ...fixed, ...(withPeer ? [peer] : [])];
}
