/** Makes metrics from tables that describe them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Begins the name of every series. */
export const PREFIX = 'sortie_';

/** The values of each label; none where events name them. */
type Labels<T extends string> = Readonly<Record<T, readonly string[]>>;

const combinations = (labels: Labels<string>): Record<string, string>[] =>
  Object.entries(labels).reduce<Record<string, string>[]>(
    (all, [name, values]) => all.flatMap((each) => values.map((value) => ({ ...each, [name]: value }))),
    [{}],
  );

/** Lets all combinations of label values start at 0, so that a query finds data before the first event. */
export function startAtZero<T extends string, M extends Counter<T> | Gauge<T> | Histogram<T>>(
  metric: M & (Counter<T> | Gauge<T> | Histogram<T>),
  labels: Labels<NoInfer<T>>,
): M {
  for (const each of combinations(labels) as Record<T, string>[]) {
    if (metric instanceof Counter) metric.inc(each, 0);
    else if (metric instanceof Gauge) metric.set(each, 0);
    else metric.zero(each);
  }
  return metric;
}

/** Makes a metric in a registry. */
type Maker<M> = (registry: Registry) => M;

const configOf = <T extends string>(registry: Registry, name: string, help: string, labels: Labels<T>) => {
  const labelNames = Object.keys(labels) as T[];
  return { name: PREFIX + name, help, labelNames, registers: [registry] };
};

export const gauge =
  <T extends string = never>(name: string, help: string, labels = {} as Labels<T>): Maker<Gauge<T>> =>
  (registry) =>
    // Of several processes: the one that is worst off.
    startAtZero(new Gauge({ ...configOf(registry, name, help, labels), aggregator: 'max' }), labels);

export const counter =
  <T extends string = never>(name: string, help: string, labels = {} as Labels<T>): Maker<Counter<T>> =>
  (registry) =>
    startAtZero(new Counter(configOf(registry, name, help, labels)), labels);

export const histogram =
  <T extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labels = {} as Labels<T>,
  ): Maker<Histogram<T>> =>
  (registry) =>
    startAtZero(new Histogram({ ...configOf(registry, name, help, labels), buckets }), labels);

/** The metrics of a table, made in its order. */
export function madeFrom<T extends Record<string, Maker<unknown>>>(registry: Registry, table: T) {
  const made = Object.entries(table).map(([key, make]) => [key, make(registry)]);
  return Object.fromEntries(made) as { readonly [K in keyof T]: ReturnType<T[K]> };
}
