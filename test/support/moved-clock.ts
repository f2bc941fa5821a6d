/**
 * A clock that stands still while this process has something to do, and then jumps to the next timer. A budget of
 * seconds takes no time, and a busy machine has as much of it as an idle one. Threads and other processes do not hold
 * it.
 */
import { createHook } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import timers, { setImmediate as turn } from 'node:timers/promises';

/** Whether this process reads or writes a file. */
const usesFile = (): boolean => process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq'));
/** Turns of the event loop without input after which nothing is under way between the parties of this process. */
const IDLE_TURNS = 20;
/** Asynchronous work of the process itself, which needs no input. */
const OWN_WORK = /^(PROMISE|Immediate|Timeout|TickObject|Microtask)$/;

const real = { setTimeout, clearTimeout, setInterval, clearInterval };
const { setTimeout: sleep } = timers;

/** The running clock. Timers that outlive it go on in real time. */
let clock: { now: number; readonly timers: Set<MovedTimer> } | null = null;

class MovedTimer {
  #at = 0;
  #left: NodeJS.Timeout | null = null;

  constructor(
    readonly run: () => void,
    private readonly ms: number,
    private readonly repeats: boolean,
  ) {
    this.refresh();
  }

  get at(): number {
    return this.#at;
  }

  refresh(): this {
    if (clock === null) {
      this.#left ??= real.setTimeout(this.run, this.ms).unref();
      this.#left.refresh();
      return this;
    }
    this.#at = clock.now + this.ms;
    // Of timers for one instant the first comes first.
    clock.timers.delete(this);
    clock.timers.add(this);
    return this;
  }

  fire(): void {
    clock?.timers.delete(this);
    if (this.repeats) this.refresh();
    this.run();
  }

  close(): void {
    clock?.timers.delete(this);
    real.clearTimeout(this.#left ?? undefined);
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}

/** Counts callbacks of connections, files and threads. */
function inputs(): { readonly count: number; disable(): void } {
  const own = new Set<number>();
  let count = 0;
  const hook = createHook({
    init: (id, type) => {
      if (OWN_WORK.test(type)) own.add(id);
    },
    before: (id) => {
      if (!own.has(id)) count += 1;
    },
    destroy: (id) => own.delete(id),
  }).enable();
  return {
    get count() {
      return count;
    },
    disable: () => {
      hook.disable();
    },
  };
}

/** As that of `node:timers/promises`. */
function promised(ms?: number, value?: unknown, { signal }: { readonly signal?: AbortSignal } = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms, value);
    const abort = (): void => {
      clearTimeout(timer);
      reject(new DOMException('', 'AbortError'));
    };
    if (signal?.aborted === true) abort();
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/** Puts timers of promises in place, also for modules that imported them by name. */
function replacePromised(by: unknown): void {
  Object.assign(timers, { setTimeout: by });
  syncBuiltinESMExports();
}

function install(): void {
  const timer =
    (repeats: boolean) =>
    (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
      new MovedTimer(
        () => {
          run(...args);
        },
        Math.max(0, ms),
        repeats,
      );
  const clear = (each: unknown): void => {
    if (each instanceof MovedTimer) each.close();
    else real.clearTimeout(each as NodeJS.Timeout);
  };
  Object.assign(globalThis, {
    ...{ setTimeout: timer(false), setInterval: timer(true), clearTimeout: clear, clearInterval: clear },
  });
  replacePromised(promised);
}

/** Moves the clock until it is replaced. */
async function move(own: NonNullable<typeof clock>): Promise<void> {
  const heard = inputs();
  const next = (): MovedTimer | undefined => [...own.timers].sort((a, b) => a.at - b.at)[0];
  while (clock === own) {
    const before = heard.count;
    let turns = 0;
    while (turns < IDLE_TURNS && heard.count === before && (next()?.at ?? Infinity) > own.now) {
      await turn();
      turns += 1;
    }
    if (turns === IDLE_TURNS) await sleep(1);
    if (heard.count !== before || usesFile()) continue;
    const due = next();
    if (due === undefined) continue;
    own.now = Math.max(own.now, due.at);
    due.fire();
    await turn();
  }
  heard.disable();
}

/** Lets other work run: for a turn where the clock moves, else for some real milliseconds. */
export const yieldFor = (ms: number): Promise<void> => (clock === null ? sleep(ms) : turn());

/**
 * Replaces the timers and the clocks until the test ends. Call it first, so that it ends last.
 * @returns puts the real ones back at once
 */
export function movedClock(t: { teardown(end: () => unknown): void }): () => Promise<void> {
  if (clock !== null) return () => Promise.resolve();
  const realInstant = process.hrtime.bigint.bind(process.hrtime);
  // Whole milliseconds, so that sums of times are exact.
  const own = { now: Math.floor(Number(realInstant()) / 1e6), timers: new Set<MovedTimer>() };
  clock = own;
  install();
  process.hrtime.bigint = () => BigInt(Math.round(own.now * 1e6));
  performance.now = () => own.now;
  const { now } = Date;
  const apart = now() - own.now;
  Date.now = () => own.now + apart;
  const moving = move(own);
  const release = async (): Promise<void> => {
    if (clock !== own) return;
    clock = null;
    Object.assign(globalThis, real);
    replacePromised(sleep);
    process.hrtime.bigint = realInstant;
    Reflect.deleteProperty(performance, 'now');
    Date.now = now;
    for (const left of own.timers) left.refresh();
    await moving;
  };
  t.teardown(release);
  return release;
}
