/** A worker's side of a server in several processes: it tells the supervisor what they share. */
import cluster from 'node:cluster';
import type { MetricObjectWithValues, MetricValue, Registry } from 'prom-client';
import type { KeyUse, Peers } from '../http/context.js';

export type SeriesJson = MetricObjectWithValues<MetricValue<string>>[];

/** `ready`: it takes connections. `scrape`: it asks for the series of all. */
export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'scrape' }
  | { readonly type: 'series'; readonly series: SeriesJson }
  | { readonly type: 'use'; readonly uses: readonly KeyUse[] };

/** `collect` asks for the worker's own series, and `scraped` has those of all. */
export type ToWorker =
  | { readonly type: 'collect' }
  | { readonly type: 'scraped'; readonly text: string }
  | { readonly type: 'use'; readonly uses: readonly KeyUse[] };

const say = (message: FromWorker): void => {
  // The supervisor may have ended; the worker ends with it.
  if (process.connected) process.send?.(message);
};

export class WorkerLink implements Peers {
  #told: KeyUse[] = [];
  #scrapes: ((text: string) => void)[] = [];
  #hear: (use: KeyUse) => void = () => undefined;

  constructor(registry: Registry) {
    process.on('message', (message: ToWorker) => {
      if (message.type === 'use') message.uses.forEach(this.#hear);
      else if (message.type === 'scraped') for (const resolve of this.#scrapes.splice(0)) resolve(message.text);
      else
        void registry.getMetricsAsJSON().then((series) => {
          say({ type: 'series', series });
        });
    });
  }

  ready(): void {
    say({ type: 'ready' });
  }

  metrics(): Promise<string> {
    return new Promise((resolve) => {
      this.#scrapes.push(resolve);
      say({ type: 'scrape' });
    });
  }

  tell(use: KeyUse): void {
    if (this.#told.length === 0)
      setImmediate(() => {
        say({ type: 'use', uses: this.#told.splice(0) });
      });
    this.#told.push(use);
  }

  onUse(listener: (use: KeyUse) => void): void {
    this.#hear = listener;
  }

  /** Lets the process end. */
  close(): void {
    cluster.worker?.disconnect();
  }
}
