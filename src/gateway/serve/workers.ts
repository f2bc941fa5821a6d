/**
 * `sortie serve --no-local` on several cores: a worker process for each. The supervisor hands out connections, starts a
 * worker in place of a dead one, and holds what workers share: their series, and the use of API keys.
 */
import cluster, { type Worker } from 'node:cluster';
import { AggregatorRegistry } from 'prom-client';
import type { ServeOptions } from '../../cli/options/config.js';
import { monotonicMs } from '../../util/clock.js';
import type { Logger } from '../telemetry/log.js';
import { firstSignal, openLog } from './serve-parts.js';
import type { FromWorker, SeriesJson, ToWorker } from './worker.js';

/** Least time between two starts in place of a worker, ms. */
const RESTART_MS = 1000;
/** Longest wait for the series of a busy worker, ms: its last ones count then. */
const COLLECT_MS = 2000;

interface Member {
  readonly worker: Worker;
  readonly startedAt: number;
  isReady: boolean;
  series: SeriesJson;
  /** Requests in flight, by key. */
  readonly inFlight: Map<string, number>;
}

const sumOf = (series: readonly SeriesJson[]) => AggregatorRegistry.aggregate([...series]);

class Supervisor {
  readonly #members = new Map<number, Member>();
  /** Counts of workers that ended: a sum of counters that falls would look like a restart of all. */
  #ended: SeriesJson = [];
  #hasServed = false;
  #isStopping = false;
  #code = 0;
  /** Collections of series, and the workers that each waits for. */
  readonly #collections = new Map<() => void, Set<number>>();
  #done: (code: number) => void = () => undefined;
  readonly done = new Promise<number>((resolve) => (this.#done = resolve));

  constructor(
    private readonly count: number,
    private readonly log: Logger,
  ) {
    // A fault of the options or of the port shows once.
    this.#start();
  }

  /** Sends a signal to all workers. */
  signal(signal: NodeJS.Signals): void {
    for (const { worker } of this.#members.values()) worker.process.kill(signal);
  }

  /** Lets the workers drain. */
  stop(signal: NodeJS.Signals): void {
    this.#isStopping = true;
    this.signal(signal);
    if (this.#members.size === 0) this.#done(this.#code);
  }

  #start(): void {
    if (this.#isStopping) return;
    const worker = cluster.fork();
    const member: Member = { worker, startedAt: monotonicMs(), isReady: false, series: [], inFlight: new Map() };
    this.#members.set(worker.id, member);
    worker.on('message', (message: FromWorker) => {
      this.#hear(member, message);
    });
    worker.on('exit', (code: number | null, signal: string | null) => {
      this.#left(member, code, signal);
    });
  }

  #hear(member: Member, message: FromWorker): void {
    if (message.type === 'ready') this.#ready(member);
    else if (message.type === 'scrape') void this.#scrape(member);
    else if (message.type === 'series') {
      member.series = message.series;
      this.#collected(member);
    } else {
      for (const { keyId, inFlight } of message.uses) {
        const open = (member.inFlight.get(keyId) ?? 0) + inFlight;
        if (open === 0) member.inFlight.delete(keyId);
        else member.inFlight.set(keyId, open);
      }
      this.#tellOthers(member, message);
    }
  }

  #ready(member: Member): void {
    const uses = [...this.#members.values()].flatMap(({ inFlight }) => usesOf(inFlight, 1));
    send(member, { type: 'use', uses });
    member.isReady = true;
    if (this.#hasServed) return;
    this.#hasServed = true;
    for (let more = 1; more < this.count; more++) this.#start();
  }

  #tellOthers(from: Member, message: ToWorker): void {
    for (const member of this.#members.values()) if (member !== from && member.isReady) send(member, message);
  }

  async #scrape(member: Member): Promise<void> {
    await new Promise<void>((resolve) => {
      const waiting = new Set(
        [...this.#members.values()].filter(({ isReady }) => isReady).map(({ worker }) => worker.id),
      );
      this.#collections.set(resolve, waiting);
      setTimeout(resolve, COLLECT_MS).unref();
      for (const each of this.#members.values()) if (each.isReady) send(each, { type: 'collect' });
    });
    const all = [this.#ended, ...[...this.#members.values()].map(({ series }) => series)];
    send(member, { type: 'scraped', text: await sumOf(all).metrics() });
  }

  #collected({ worker }: Member): void {
    for (const [resolve, waiting] of this.#collections) {
      waiting.delete(worker.id);
      if (waiting.size > 0) continue;
      this.#collections.delete(resolve);
      resolve();
    }
  }

  #left(member: Member, code: number | null, signal: string | null): void {
    const { worker, startedAt } = member;
    this.#members.delete(worker.id);
    this.#collected(member);
    this.#tellOthers(member, { type: 'use', uses: usesOf(member.inFlight, -1) });
    const counts = member.series.filter(({ type }) => String(type) !== 'gauge');
    // Sums have their values, which the type does not say.
    this.#ended = sumOf([this.#ended, counts]).getMetricsAsArray() as SeriesJson;
    if (!this.#hasServed || this.#isStopping) {
      this.#isStopping = true;
      this.#code = Math.max(this.#code, code ?? 1);
      if (this.#members.size === 0) this.#done(this.#code);
      return;
    }
    this.log.error({ worker: worker.process.pid, code, signal }, 'a worker ended, starting another');
    setTimeout(
      () => {
        this.#start();
      },
      Math.max(0, startedAt + RESTART_MS - monotonicMs()),
    );
  }
}

/** Requests in flight that begin, or end. */
const usesOf = (inFlight: ReadonlyMap<string, number>, sign: 1 | -1) =>
  [...inFlight].map(([keyId, open]) => ({ keyId, requests: 0, tokens: 0, inFlight: sign * open }));

function send({ worker }: Member, message: ToWorker): void {
  // A worker that ends has closed its channel.
  if (worker.isConnected()) worker.send(message);
}

/**
 * Serves by worker processes until SIGTERM or SIGINT.
 * @returns the exit code: 0 after a drain of all
 */
export async function superviseWorkers(options: ServeOptions): Promise<number> {
  const stopping = firstSignal();
  const { logger: log } = await openLog(options);
  const supervisor = new Supervisor(options.threads, log);
  if (options.apiKeyFile !== null)
    process.on('SIGHUP', () => {
      supervisor.signal('SIGHUP');
    });
  void stopping.then((signal) => {
    supervisor.stop(signal);
  });
  return supervisor.done;
}
