/** Budget classes of a bench: the deadlines that clients have, whether or not the server is told. */

/** Deadlines of a request in ms from its arrival; TPOT is a mean. Null: none. */
export interface Budget {
  readonly totalMs: number | null;
  readonly ttftMs: number | null;
  readonly tpotMs: number | null;
}

export interface BudgetClass {
  readonly name: string;
  readonly budget: Budget;
}

export const NO_BUDGET: Budget = { totalMs: null, ttftMs: null, tpotMs: null };

const RULE =
  'NAME=BUDGET separated by commas, with a BUDGET of total:MS, ttft:MS and tpot:MS joined by "+", of MS alone, or none';

const PARTS: Readonly<Record<string, keyof Budget>> = { total: 'totalMs', ttft: 'ttftMs', tpot: 'tpotMs' };

/**
 * Reads classes such as `tight=1000,chat=ttft:300+tpot:50,batch=none`.
 * @throws Error that names the rule and the value
 */
export function parseBudgets(text: string): BudgetClass[] {
  const fail = (): never => {
    throw new Error(`must be ${RULE}`);
  };
  const classes = text.split(',').map((item): BudgetClass => {
    const [name = '', budget = '', ...rest] = item.split('=').map((part) => part.trim());
    if (!/^[\w.-]{1,40}$/.test(name) || rest.length > 0) return fail();
    return { name, budget: budget === 'none' ? NO_BUDGET : budgetOf(budget, fail) };
  });
  if (new Set(classes.map(({ name }) => name)).size < classes.length) fail();
  return classes;
}

function budgetOf(text: string, fail: () => never): Budget {
  const budget: Record<keyof Budget, number | null> = { ...NO_BUDGET };
  for (const part of text.split('+')) {
    const [name, ms] = part.includes(':') ? part.split(':') : ['total', part];
    const field = PARTS[name ?? ''];
    if (field === undefined || !/^\d{1,8}(\.\d{1,3})?$/.test(ms ?? '') || Number(ms) <= 0) return fail();
    budget[field] = Number(ms);
  }
  return budget;
}

/** The headers that state a budget to Sortie. */
export function budgetHeaders({ totalMs, ttftMs, tpotMs }: Budget): Record<string, string> {
  return {
    ...(totalMs === null ? {} : { 'x-latency-budget-ms': String(Math.round(totalMs)) }),
    ...(ttftMs === null ? {} : { 'x-slo-ttft-ms': String(ttftMs) }),
    ...(tpotMs === null ? {} : { 'x-slo-tpot-ms': String(tpotMs) }),
  };
}

/** A budget in words, such as "1000 ms" or "TTFT 300 ms, TPOT 50 ms". */
export function budgetText({ totalMs, ttftMs, tpotMs }: Budget): string {
  const parts = [
    ...(totalMs === null ? [] : [`${totalMs} ms`]),
    ...(ttftMs === null ? [] : [`TTFT ${ttftMs} ms`]),
    ...(tpotMs === null ? [] : [`TPOT ${tpotMs} ms`]),
  ];
  return parts.length === 0 ? 'none' : parts.join(', ');
}
