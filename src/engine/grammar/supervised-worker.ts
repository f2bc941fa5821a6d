/**
 * The thread of grammars, watched: it owes an answer to each `open` and `accept`, in order, and is ended where it breaks
 * down or is silent for too long.
 *
 * Knows: threads and the messages. Must not know: sequences, what becomes of those that it held.
 */
import { Worker } from 'node:worker_threads';
import type { Grammar } from '../protocol.js';
import { Watchdog } from '../../util/watchdog.js';
import type { FromGrammars, GrammarAnswer, GrammarThreadData, ToGrammars } from './messages.js';

/** A thread that is silent for longer is stuck in a grammar, or starved, ms. */
const SILENCE_MS = 10_000;
/** The same while it loads, a second's work on a machine that may be busy. */
const LOADING_MS = 30_000;
/** Whose message a thread was at. It may be closed by now: clients leave, budgets are over. */
export interface Offender {
  readonly id: string;
  readonly grammar: Grammar;
}

/** How a thread ended. */
export interface Loss {
  /** For the log. */
  readonly why: string;
  /** Null where it was at no message, or had not got that far. */
  readonly offender: Offender | null;
  /** Whether the library broke down on that message. */
  readonly isCrashed: boolean;
  /** Whether it had got ready: if not, neither will another one. */
  readonly wasLoaded: boolean;
}

export interface ThreadListener {
  answered(answer: GrammarAnswer): void;
  /** Nothing comes after it. */
  lost(loss: Loss): void;
}

export class SupervisedWorker {
  readonly #worker: Worker;
  /** Whose answers it owes, in order. */
  readonly #pending: Offender[] = [];
  #isLoaded = false;
  #isOver = false;
  /** Where this process was in a long step, or suspended, what came or comes after all is read between its two looks. */
  readonly #watchdog = new Watchdog(
    () => undefined,
    () => {
      this.#lose('it takes too long');
    },
    1,
  );

  /** @throws Error where the system has no room for a thread */
  constructor(
    data: GrammarThreadData,
    private readonly options: { readonly silenceMs?: number },
    private readonly listener: ThreadListener,
  ) {
    this.#worker = new Worker(new URL('./thread.js', import.meta.url), { workerData: data });
    this.#worker.on('message', (message: FromGrammars) => {
      this.#answered(message);
    });
    this.#worker.on('error', (error) => {
      this.#lose(error.message);
    });
    this.#worker.on('exit', (code) => {
      this.#lose(`it ended with code ${code}`);
    });
    // After its listeners, which would hold the process again.
    this.#worker.unref();
  }

  /** @param grammar that the message is about */
  send(message: ToGrammars, grammar: Grammar): void {
    this.#worker.postMessage(message);
    if (message.type === 'close') return;
    this.#pending.push({ id: message.id, grammar });
    // What is asked of a thread that is stuck makes it no younger.
    if (this.#pending.length === 1) this.#guard();
  }

  #answered(message: FromGrammars): void {
    // What an ended one had still to say is not owed any more.
    if (this.#isOver) return;
    this.#isLoaded = true;
    if (message.type === 'crashed') {
      this.#lose(message.message, true);
      return;
    }
    if (message.type !== 'loaded') {
      this.#pending.shift();
      this.listener.answered(message);
    }
    this.#guard();
  }

  /** Ends a thread that is stuck while answers are owed. Begins anew where it watches already. */
  #guard(): void {
    const silenceMs = this.options.silenceMs ?? (this.#isLoaded ? SILENCE_MS : LOADING_MS);
    if (this.#pending.length === 0) this.#watchdog.stop();
    else this.#watchdog.start(silenceMs / 2);
  }

  #lose(why: string, isCrashed = false): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#watchdog.stop();
    void this.#worker.terminate();
    const offender = this.#isLoaded ? (this.#pending[0] ?? null) : null;
    this.listener.lost({ why, offender, isCrashed, wasLoaded: this.#isLoaded });
  }
}
