/** Makes metrics from tables that describe them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Makes a metric in a registry. `prefix` begins its name. */
type Maker<M> = (registry: Registry, prefix: string) => M;

export const gauge =
  <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []): Maker<Gauge<T>> =>
  (registry, prefix) =>
    new Gauge({ name: prefix + name, help, labelNames, registers: [registry] });

export const counter =
  <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []): Maker<Counter<T>> =>
  (registry, prefix) =>
    new Counter({ name: prefix + name, help, labelNames, registers: [registry] });

export const histogram =
  <T extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly T[] = [],
  ): Maker<Histogram<T>> =>
  (registry, prefix) =>
    new Histogram({ name: prefix + name, help, buckets, labelNames, registers: [registry] });

/** The metrics of a table, made in its order. */
export function madeFrom<T extends Record<string, Maker<unknown>>>(registry: Registry, prefix: string, table: T) {
  const made = Object.entries(table).map(([key, make]) => [key, make(registry, prefix)]);
  return Object.fromEntries(made) as { readonly [K in keyof T]: ReturnType<T[K]> };
}
