/** The sides of bench:goodput: the server of each side, and its headers for a depth. */
export interface Side {
  readonly name: string;
  /** Sides with the same start share a server. */
  readonly start: 'sortie' | 'peer';
  /** Headers of a request with a total budget in ms. */
  readonly headers: (budgetMs: number) => Record<string, string>;
  /** Runs only where `--sides` names it. */
  readonly byNameOnly?: true;
}

/**
 * Sortie with a budget (late answers continue, or are truncated), and at fixed exits. A capped side has a budget and a
 * deepest exit. The optional peer has neither budgets nor exits.
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
  const capped = exits.map((layer): Side => ({
    name: `capped ${layer}`,
    start: 'sortie',
    headers: (budgetMs) => ({ ...routed.headers(budgetMs), 'x-max-exit-layer': String(layer) }),
    byNameOnly: true,
  }));
  const peer: Side = { name: 'llama-server', start: 'peer', headers: () => ({}) };
  return [routed, truncated, ...fixed, ...capped, ...(withPeer ? [peer] : [])];
}
