/** Reads the series of /metrics that the load view draws. */

/** The samples of some series in Prometheus' text format. @returns a list of { labels, value } by name */
export function parseMetrics(text, names) {
  const found = new Map(names.map((name) => [name, []]));
  for (const [, name, labels, value] of text.matchAll(/^([\w:]+)(?:\{(.*)\})? (\S+)/gm)) {
    found.get(name)?.push({
      labels: Object.fromEntries([...(labels ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text])),
      value: Number(value),
    });
  }
  return found;
}

const sum = (samples) => samples.reduce((total, { value }) => total + value, 0);

const NAMES = [
  'sortie_num_requests_running',
  'sortie_num_requests_waiting',
  'sortie_exit_tokens_total',
  'sortie_budget_requests_total',
];

/** One reading of the server's load. Counters count from the start of the server. */
export function readLoad(text) {
  const [running, waiting, exits, budgets] = [...parseMetrics(text, NAMES).values()];
  const of = (outcome) => sum(budgets.filter(({ labels }) => labels.outcome === outcome));
  return {
    running: sum(running),
    waiting: sum(waiting),
    tokens: Object.fromEntries(exits.map(({ labels, value }) => [labels.exit_layer, value])),
    kept: of('whole') + of('landed'),
    budgets: sum(budgets),
    landed: of('landed'),
  };
}

/** How many times their time at the start the steps take; 1 where the metrics do not say. */
export function slowdownOf(text) {
  const [samples] = parseMetrics(text, ['sortie_engine_slowdown_ratio']).values();
  return samples[0]?.value ?? 1;
}

/** Tokens by exit between two readings. A restart of the server sets counters back to 0. */
export function tokensBetween(earlier, later) {
  const grown = Object.entries(later.tokens).map(([layer, total]) => [
    layer,
    Math.max(0, total - (earlier.tokens[layer] ?? 0)),
  ]);
  return Object.fromEntries(grown);
}

/** The share of budgets kept between two readings, or null if none ended. */
export function attainmentBetween(earlier, later) {
  const all = later.budgets - earlier.budgets;
  return all > 0 ? (later.kept - earlier.kept) / all : null;
}

/** The share of budgets whose answer landed between two readings, or null if none ended. */
export function landedBetween(earlier, later) {
  const all = later.budgets - earlier.budgets;
  return all > 0 ? (later.landed - earlier.landed) / all : null;
}

/** The mean exit layer of these tokens, or null without tokens. */
export function meanDepth(tokens) {
  const total = Object.values(tokens).reduce((all, count) => all + count, 0);
  if (total === 0) return null;
  return Object.entries(tokens).reduce((depth, [layer, count]) => depth + layer * count, 0) / total;
}
