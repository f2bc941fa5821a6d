/** Makes the metrics of one registry, with one prefix of their names. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** @param prefix begins each name */
export function makersOf(registry: Registry, prefix: string) {
  const base = (name: string, help: string) => ({ name: prefix + name, help, registers: [registry] });
  return {
    gauge: <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []) =>
      new Gauge<T>({ ...base(name, help), labelNames }),
    counter: <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []) =>
      new Counter<T>({ ...base(name, help), labelNames }),
    histogram: <T extends string = never>(
      name: string,
      help: string,
      buckets: number[],
      labelNames: readonly T[] = [],
    ) => new Histogram<T>({ ...base(name, help), buckets, labelNames }),
  };
}

export type Makers = ReturnType<typeof makersOf>;
