/** Makes metrics from tables that describe them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Begins the name of every series. */
export const PREFIX = 'sortie_';

/** Makes a metric in a registry. */
type Maker<M> = (registry: Registry) => M;

export const gauge =
  <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []): Maker<Gauge<T>> =>
  (registry) =>
    new Gauge({ name: PREFIX + name, help, labelNames, registers: [registry] });

export const counter =
  <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []): Maker<Counter<T>> =>
  (registry) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers: [registry] });

export const histogram =
  <T extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly T[] = [],
  ): Maker<Histogram<T>> =>
  (registry) =>
    new Histogram({ name: PREFIX + name, help, buckets, labelNames, registers: [registry] });

/** The metrics of a table, made in its order. */
export function madeFrom<T extends Record<string, Maker<unknown>>>(registry: Registry, table: T) {
  const made = Object.entries(table).map(([key, make]) => [key, make(registry)]);
  return Object.fromEntries(made) as { readonly [K in keyof T]: ReturnType<T[K]> };
}
