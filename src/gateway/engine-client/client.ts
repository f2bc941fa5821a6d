/**
 * The gateway's end of the engine process: starts it, passes events to their answers, restarts it when it dies.
 *
 * Knows: child processes and the protocol. Must not know: the work of the engine, HTTP.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { monotonicMs, turnStartedAt } from '../../util/clock.js';
import type { Engine, EngineEvents } from './engine.js';
import type {
  EngineRequest,
  CancelReason,
  FatalMessage,
  FromEngine,
  ReadyMessage,
  ToEngine,
} from '../../protocol/index.js';
import type { EngineOptions } from '../../protocol/engine-options.js';
import { sequencesOf } from '../../protocol/request.js';
import { OpenSequences } from './open-sequences.js';
import { watchdogTimeout } from './watchdog-timeout.js';
import { SequenceEvents } from './sequence-events.js';
import { Watchdog } from '../../util/time-limit.js';

/** Delay of a start after the n-th failure in a row; the last one repeats. */
const BACK_OFF_MS = [0, 500, 1000, 2000, 5000, 10_000, 30_000];
/** A process that lived this long was healthy: after its death, the back-off starts from the beginning. */
const HEALTHY_MS = 60_000;
/** Limit of the time to ready: large models on slow disks take minutes. */
const START_MS = 900_000;
/** Time between a stop message and the kill. */
const STOP_MS = 2000;

/** The engine reported that it cannot start, and why. */
export class EngineStartError extends Error {
  override readonly name = 'EngineStartError';
}

function forkEngine(options: EngineOptions): ChildProcess {
  const entry = fileURLToPath(new URL('../../engine/worker/process.js', import.meta.url));
  return fork(entry, [JSON.stringify(options)], {
    // With a fixed threshold, glibc maps each large tensor separately, and freed ones go back to the system.
    env: { ...process.env, MALLOC_MMAP_THRESHOLD_: String(2 ** 20) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}

export class EngineClient extends EventEmitter<EngineEvents> implements Engine {
  #child: ChildProcess | null = null;
  #ready: ReadyMessage | null = null;
  readonly #closing = new AbortController();
  #failures = 0;
  readonly #sequences: OpenSequences;
  /** Ids to cancel, by reason. They leave in one message: a request of 64 choices costs the engine one cancel. */
  readonly #cancels = new Map<CancelReason, string[]>();
  readonly #watchdog = new Watchdog(
    () => {
      this.#send({ type: 'ping' });
    },
    () => {
      this.#isSilent = true;
      this.#child?.kill('SIGKILL');
    },
  );
  /** Whether the watchdog killed the process. */
  #isSilent = false;
  /** Must resolve before the engine counts as ready. */
  #checked = Promise.resolve();
  readonly #options: EngineOptions;
  readonly #leastSilenceMs: number | undefined;
  readonly #startMs: number;

  /**
   * @param leastSilenceMs for tests: lower limit of the silence after which the watchdog kills the engine
   * @param startMs for tests: limit of the time to ready
   */
  constructor(options: EngineOptions, leastSilenceMs?: number, startMs = START_MS) {
    super();
    const most = options.maxRunning + options.maxQueue;
    this.#sequences = new OpenSequences(most, (id, end) => {
      this.cancel(id, 'deadline');
      if (end !== null) this.#tell(() => this.emit('cut', end));
    });
    // The gateway bounds each tenant; the engine bounds all of them together.
    this.#options = { ...options, maxQueue: 2 * most - options.maxRunning };
    this.#leastSilenceMs = leastSilenceMs;
    this.#startMs = startMs;
  }

  get ready(): ReadyMessage | null {
    return this.#ready;
  }

  /** Process id of the engine, for tests and logs; null without a process. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  async start(checked: Promise<void> = Promise.resolve()): Promise<ReadyMessage> {
    this.#checked = checked;
    // The caller handles the rejection.
    checked.catch(() => undefined);
    return this.#launch();
  }

  hasRoom(tenant: string, sequences: number, tokens: number): boolean {
    return this.#sequences.hasRoom(tenant, sequences, tokens);
  }

  get unreadMs(): number {
    return this.#sequences.unreadMs(monotonicMs());
  }

  generate(request: EngineRequest): SequenceEvents {
    const ids = request.sequences.map(({ id }) => id);
    const answer = new SequenceEvents(ids.length, () => {
      for (const id of ids) this.cancel(id, 'cancelled');
    });
    if (!this.#ready) {
      for (const index of ids.keys()) answer.add({ index, type: 'lost', message: 'the engine is not ready' }, true);
      return answer;
    }
    const { sequences } = request;
    for (const [index, sequence] of sequencesOf(request).entries()) {
      const isFurther = sequences[index]?.prompt === sequences[index - 1]?.prompt;
      this.#sequences.add(sequence, answer, index, isFurther ? 0 : sequence.prompt.length);
    }
    this.#send({ type: 'generate', request });
    return answer;
  }

  cancel(id: string, reason: CancelReason): void {
    if (!this.#sequences.has(id)) return;
    if (this.#cancels.size === 0) {
      setImmediate(() => {
        this.#sendCancels();
      });
    }
    this.#cancels.set(reason, [...(this.#cancels.get(reason) ?? []), id]);
  }

  wake(ids: readonly string[]): void {
    this.#send({ type: 'wake', ids });
  }

  cancelAll(reason: CancelReason): void {
    for (const id of this.#sequences.ids) {
      this.cancel(id, reason);
      this.#sequences.end(id, reason);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit').catch(() => undefined);
    // An engine that loads reads no message and runs no answer.
    if (this.#ready === null) child.kill('SIGKILL');
    else {
      this.#sendCancels();
      this.#send({ type: 'stop' });
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await exited;
    clearTimeout(timer);
  }

  /** Starts a process and resolves when it is ready. @throws EngineStartError if it exits first or takes too long */
  #launch(): Promise<ReadyMessage> {
    const child = forkEngine(this.#options);
    this.#child = child;
    this.#isSilent = false;
    // A process exits when its channel closes, unless it is stuck.
    const kill = (): boolean => child.kill('SIGKILL');
    process.once('exit', kill);
    const startedAt = performance.now();
    return new Promise((resolve, reject) => {
      let reason: string | null = null;
      // The watchdog pings only a ready engine: an engine that loads does not answer.
      const late = setTimeout(() => {
        reason = `the gateway killed the engine, which was not ready after ${this.#startMs} ms`;
        kill();
      }, this.#startMs).unref();
      child.on('message', (message: FromEngine) => {
        turnStartedAt();
        this.#watchdog.heard();
        if (message.type === 'fatal') reason = message.message;
        else if (message.type !== 'ready') this.#hear(message);
        else {
          clearTimeout(late);
          const isReady = (): void => {
            if (this.#child !== child) return;
            this.#becomeReady(message);
            resolve(message);
          };
          this.#checked.then(isReady, () => undefined);
        }
      });
      const gone = (why: string): void => {
        clearTimeout(late);
        process.off('exit', kill);
        if (this.#child !== child) return;
        if (this.#ready === null) reject(new EngineStartError(why));
        this.#lose(why, startedAt);
      };
      child.on('error', (error) => {
        reason = error.message;
        // If the system cannot create the process (too many processes or open files), no exit event follows.
        if (child.pid === undefined) gone(reason);
      });
      child.once('exit', (code, signal) => {
        const name = 'the engine process';
        const how = this.#isSilent ? `the gateway killed ${name}, which stopped answering` : `${name} exited`;
        gone(reason ?? `${how} (${signal ?? `code ${code ?? 'unknown'}`})`);
      });
    });
  }

  #hear(message: Exclude<FromEngine, ReadyMessage | FatalMessage>): void {
    if (message.type === 'loading') this.emit('loading', message.done, message.total);
    else if (message.type === 'step') {
      this.#sequences.hear(message);
      this.#tell(() => this.emit('step', message));
    }
  }

  /** Ends what the lost process had. A process that was ready starts again. */
  #lose(why: string, startedAt: number): void {
    const wasReady = this.#ready !== null;
    this.#watchdog.stop();
    this.#ready = null;
    this.#child = null;
    this.#cancels.clear();
    this.#sequences.loseAll(why);
    if (!wasReady) return;
    if (performance.now() - startedAt > HEALTHY_MS) this.#failures = 0;
    if (this.#isClosing()) return;
    this.#tell(() => this.emit('down', why));
    void this.#restart();
  }

  #becomeReady(message: ReadyMessage): void {
    this.#ready = message;
    const longest = { chunk: this.#options.prefillChunk, context: message.maxLength };
    this.#watchdog.start(watchdogTimeout(message.cost, longest, this.#leastSilenceMs));
    this.emit('ready', message);
  }

  async #restart(): Promise<void> {
    while (!this.#isClosing() && !this.#ready) {
      try {
        const { signal } = this.#closing;
        await delay(BACK_OFF_MS[Math.min(this.#failures++, BACK_OFF_MS.length - 1)], undefined, { signal });
        await this.#launch();
      } catch (error) {
        if (this.#isClosing()) return;
        this.emit('down', error instanceof Error ? error.message : String(error));
      }
    }
  }

  /** Emits an event once the answers are written: a tick that a microtask asks for runs when no microtask is left. */
  #tell(emit: () => void): void {
    queueMicrotask(() => {
      process.nextTick(emit);
    });
  }

  #sendCancels(): void {
    for (const [reason, ids] of this.#cancels) this.#send({ type: 'cancel', ids, reason });
    this.#cancels.clear();
  }

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  #send(message: ToEngine): void {
    // A failed send means that the process is gone; its exit event ends the sequences.
    if (this.#child?.connected) this.#child.send(message, () => undefined);
  }
}
