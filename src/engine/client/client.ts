/**
 * The gateway's end of the engine process: starts it, hands events to their sequences, starts it again when it dies.
 *
 * Knows: child processes and the messages. Must not know: what the engine computes, HTTP.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { monotonicMs } from '../../util/clock.js';
import { DeadlineTimer } from './deadline-timer.js';
import type { Engine, EngineEvents, SequenceSink } from './engine.js';
import type {
  CancelReason,
  EndedEvent,
  FromEngine,
  GenerateMessage,
  ReadyMessage,
  StepMessage,
  ToEngine,
} from '../protocol.js';
import type { EngineOptions } from './options.js';
import { silenceOf } from './silence.js';
import { Watchdog } from '../../util/watchdog.js';

/** Milliseconds before a start after the n-th failure in a row; the last one repeats. */
const BACK_OFF_MS = [0, 500, 1000, 2000, 5000, 10_000, 30_000];
/** A process that lived that long was healthy: its death starts the back-off anew. */
const HEALTHY_MS = 60_000;
/** How long a process may take to get ready, ms: large models on slow disks take minutes. */
const START_MS = 900_000;
/** How long a process may take to end by itself. */
const STOP_MS = 2000;

/** The engine said that it can't start, and why. */
export class EngineStartError extends Error {
  override readonly name = 'EngineStartError';
}

/** The end of an answer that the engine has not told of. */
function endedUnheard(id: string, reason: CancelReason): EndedEvent {
  return {
    id,
    reason,
    error: null,
    promptTokens: 0,
    cachedTokens: 0,
    startedAt: null,
    firstTokenAt: null,
    endedAt: monotonicMs(),
    preemptions: 0,
  };
}

export class EngineClient extends EventEmitter<EngineEvents> implements Engine {
  #child: ChildProcess | null = null;
  #ready: ReadyMessage | null = null;
  readonly #closing = new AbortController();
  #failures = 0;
  readonly #sinks = new Map<string, SequenceSink>();
  readonly #deadlines = new DeadlineTimer((end) => {
    this.cancel(end.id, 'deadline');
    this.#take(end.id)?.ended(end);
    this.emit('cut', end);
  });

  readonly #watchdog = new Watchdog(
    () => {
      this.#send({ type: 'ping' });
    },
    () => {
      this.#isSilent = true;
      this.#child?.kill('SIGKILL');
    },
  );
  /** Whether the process was ended because it said nothing. */
  #isSilent = false;
  /** What no process is ready before. */
  #checked = Promise.resolve();

  /**
   * @param leastSilenceMs for tests: how long an engine may say nothing although it is asked, at least
   * @param startMs for tests: how long one may take to get ready
   */
  constructor(
    private readonly options: EngineOptions,
    private readonly leastSilenceMs?: number,
    private readonly startMs = START_MS,
  ) {
    super();
  }

  get ready(): ReadyMessage | null {
    return this.#ready;
  }

  /** Process id of the engine, for tests and logs; null while there is none. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  async start(checked: Promise<void> = Promise.resolve()): Promise<ReadyMessage> {
    this.#checked = checked;
    // Whoever handed it in learns what is wrong.
    checked.catch(() => undefined);
    return this.#launch();
  }

  generate(request: Omit<GenerateMessage, 'type'>, sink: SequenceSink): void {
    if (!this.#ready) {
      sink.lost('the engine is not ready');
      return;
    }
    this.#sinks.set(request.id, sink);
    this.#deadlines.add(request);
    this.#send({ type: 'generate', ...request });
  }

  cancel(id: string, reason: CancelReason): void {
    if (this.#sinks.has(id)) this.#send({ type: 'cancel', id, reason });
  }

  cancelAll(reason: CancelReason): void {
    for (const id of [...this.#sinks.keys()]) {
      this.cancel(id, reason);
      // Not when the engine says so: it may be in a step of seconds, or stuck, and nobody waits for that any more.
      this.#take(id)?.ended(endedUnheard(id, reason));
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) =>
      child.once('exit', () => {
        resolve();
      }),
    );
    this.#send({ type: 'stop' });
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(timer);
  }

  /** Starts a process and resolves when it is ready. @throws EngineStartError when it ends before, or never is. */
  #launch(): Promise<ReadyMessage> {
    const child = fork(
      fileURLToPath(new URL('../worker/process.js', import.meta.url)),
      [JSON.stringify(this.options)],
      {
        // Tensors in mappings of their own go back to the system when loading frees them; glibc would keep them.
        env: { ...process.env, MALLOC_MMAP_THRESHOLD_: String(2 ** 20) },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    );
    this.#child = child;
    // It ends by itself when its channel closes, unless it is stuck.
    const kill = (): void => {
      child.kill('SIGKILL');
    };
    process.once('exit', kill);
    this.#isSilent = false;
    const startedAt = performance.now();
    return new Promise((resolve, reject) => {
      let reason: string | null = null;
      // The watchdog asks only who is ready: loading answers nothing.
      const late = setTimeout(() => {
        reason = `the engine was not ready after ${this.startMs} ms and was ended`;
        child.kill('SIGKILL');
      }, this.startMs).unref();
      child.on('message', (message: FromEngine) => {
        this.#watchdog.heard();
        if (message.type === 'pong') return;
        if (message.type === 'ready') {
          clearTimeout(late);
          const isReady = (): void => {
            if (this.#child !== child) return;
            this.#becomeReady(message);
            resolve(message);
          };
          this.#checked.then(isReady, () => undefined);
        } else if (message.type === 'fatal') {
          reason = message.message;
        } else {
          this.#dispatch(message);
        }
      });
      const gone = (why: string): void => {
        clearTimeout(late);
        process.off('exit', kill);
        if (this.#child !== child) return;
        const wasReady = this.#ready !== null;
        this.#watchdog.stop();
        this.#ready = null;
        this.#child = null;
        this.#loseAll(why);
        if (!wasReady) reject(new EngineStartError(why));
        if (wasReady && performance.now() - startedAt > HEALTHY_MS) this.#failures = 0;
        if (wasReady && !this.#isClosing()) {
          this.emit('down', why);
          void this.#restart();
        }
      };
      child.on('error', (error) => {
        reason = error.message;
        // Where there never was a process (too many of them, or of open files), no exit follows.
        if (child.pid === undefined) gone(reason);
      });
      child.once('exit', (code, signal) => {
        const how = this.#isSilent ? 'took no message any more and was ended' : 'ended';
        gone(reason ?? `the engine process ${how} (${signal ?? `code ${code ?? 'unknown'}`})`);
      });
    });
  }

  #becomeReady(message: ReadyMessage): void {
    this.#ready = message;
    const longest = { chunk: this.options.prefillChunk, context: message.maxLength };
    this.#watchdog.start(silenceOf(message.cost, longest, this.leastSilenceMs));
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

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  #dispatch(step: StepMessage): void {
    this.#deadlines.hear(step);
    for (const event of step.planned) this.#sinks.get(event.id)?.planned(event);
    for (const event of step.prompts) this.#sinks.get(event.id)?.prompt(event);
    for (const event of step.tokens) this.#sinks.get(event.id)?.token(event, step.at);
    for (const event of step.refused) this.#take(event.id)?.refused(event);
    for (const event of step.ended) this.#take(event.id)?.ended(event);
    this.emit('step', step);
  }

  #take(id: string): SequenceSink | undefined {
    const sink = this.#sinks.get(id);
    this.#sinks.delete(id);
    this.#deadlines.drop(id);
    return sink;
  }

  #loseAll(message: string): void {
    const sinks = [...this.#sinks.values()];
    this.#sinks.clear();
    this.#deadlines.clear();
    for (const sink of sinks) sink.lost(message);
  }

  #send(message: ToEngine): void {
    // A failed send means that the process is gone: its exit event ends the sequences.
    if (this.#child?.connected) this.#child.send(message, () => undefined);
  }
}
