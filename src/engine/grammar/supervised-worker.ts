/**
 * Supervises the grammar thread, which answers each `open` and `accept` in order. A thread that crashes or stays silent for
 * too long is terminated.
 *
 * Must not know: sequences, and what happens to the sessions of a lost thread.
 */
import { Worker } from 'node:worker_threads';
import type { Grammar } from '../../protocol/index.js';
import { Watchdog } from '../../util/watchdog.js';
import type { FromGrammars, GrammarAnswer, GrammarThreadData, ToGrammars } from './messages.js';

/** A thread that is silent for longer is stuck in a grammar, or starved. */
const SILENCE_MS = 10_000;
/** The same while the thread loads, which takes a second on an idle machine. */
const LOADING_MS = 30_000;

/** The session whose message a thread was processing. It may be closed by now: clients disconnect, budgets expire. */
export interface Offender {
  readonly id: string;
  readonly grammar: Grammar;
}

/** The end of a thread. */
export interface Loss {
  /** For the log. */
  readonly why: string;
  /** Null if the thread was processing no message, or had not loaded. */
  readonly offender: Offender | null;
  /** Whether the library crashed on that message. */
  readonly isCrashed: boolean;
  /** Whether the thread had loaded; if not, another thread will not load either. */
  readonly wasLoaded: boolean;
}

export interface ThreadListener {
  answered(answer: GrammarAnswer): void;
  /** The last call. */
  lost(loss: Loss): void;
}

export class SupervisedWorker {
  readonly #worker: Worker;
  /** Senders of unanswered messages, in order. */
  readonly #pending: Offender[] = [];
  #isLoaded = false;
  #isOver = false;
  readonly #options: { readonly silenceMs?: number };
  readonly #listener: ThreadListener;
  /**
   * A thread times out at the second of two checks. Between them, this process reads answers that arrived during a long
   * step or a suspension.
   */
  readonly #watchdog = new Watchdog(
    () => undefined,
    () => {
      this.#lose('it did not answer in time');
    },
    1,
  );

  /** @throws Error if the system cannot create a thread */
  constructor(data: GrammarThreadData, options: { readonly silenceMs?: number }, listener: ThreadListener) {
    this.#options = options;
    this.#listener = listener;
    this.#worker = new Worker(new URL('./thread.js', import.meta.url), { workerData: data });
    this.#worker.on('message', (message: FromGrammars) => {
      this.#answered(message);
    });
    this.#worker.on('error', (error) => {
      this.#lose(error.message);
    });
    this.#worker.on('exit', (code) => {
      this.#lose(`it exited with code ${code}`);
    });
    // Called after the listeners are added: adding one refs the worker again.
    this.#worker.unref();
  }

  /** @param grammar of the message's session */
  send(message: ToGrammars, grammar: Grammar): void {
    this.#worker.postMessage(message);
    if (message.type === 'close') return;
    this.#pending.push({ id: message.id, grammar });
    // Messages to a thread that is already busy do not restart its time limit.
    if (this.#pending.length === 1) this.#guard();
  }

  #answered(message: FromGrammars): void {
    // A terminated thread may still deliver messages; they are ignored.
    if (this.#isOver) return;
    this.#isLoaded = true;
    if (message.type === 'crashed') {
      this.#lose(message.message, true);
      return;
    }
    if (message.type !== 'loaded') {
      this.#pending.shift();
      this.#listener.answered(message);
    }
    this.#guard();
  }

  /** Starts or restarts the time limit while answers are pending. */
  #guard(): void {
    const silenceMs = this.#options.silenceMs ?? (this.#isLoaded ? SILENCE_MS : LOADING_MS);
    if (this.#pending.length === 0) this.#watchdog.stop();
    else this.#watchdog.start(silenceMs / 2);
  }

  #lose(why: string, isCrashed = false): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#watchdog.stop();
    void this.#worker.terminate();
    const offender = this.#isLoaded ? (this.#pending[0] ?? null) : null;
    this.#listener.lost({ why, offender, isCrashed, wasLoaded: this.#isLoaded });
  }
}
