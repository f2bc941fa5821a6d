/**
 * Supervises the grammar thread, which answers each `open` and `accept` in order. A thread that crashes or stays silent
 * for too long is terminated.
 *
 * Must not know: sequences, and what happens to the sessions of a lost thread.
 */
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { Grammar } from '../../protocol/index.js';
import { monotonicMs } from '../../util/clock.js';
import { Watchdog } from '../../util/time-limit.js';
import type { FromGrammars, GrammarAnswer, GrammarThreadData, ToGrammars } from './messages.js';

/** A thread that is silent for longer, and has computed for half as long, is stuck in a grammar. */
const SILENCE_MS = 10_000;
/** The same while the thread loads, which takes a second on an idle machine. */
const LOADING_MS = 30_000;
/** Longest silence of a thread that lacks a core: one that waits for ever, such as for a lock, looks the same. */
const STARVED_MS = 200_000;

/** Linux counts processor time in these units for every architecture that Node.js runs on. */
const TICK_MS = 10;

/** For tests. */
export interface Supervision {
  /** Longest silence of the thread, ms. */
  readonly silenceMs?: number;
  /** Processor time of the thread, ms; null: unknown. */
  readonly threadMs?: () => number | null;
}

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
  /** Whether the thread had loaded. A thread whose load fails by an error fails again. */
  readonly wasLoaded: boolean;
  /** Whether the thread did not answer in time. */
  readonly isLate: boolean;
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
  #thread: number | null = null;
  /** Of the time limit: its length, and the processor time of the thread at its start. */
  #limitMs = SILENCE_MS;
  #computedMs: number | null = null;
  /** When the thread had its present message. */
  #silentSince = 0;
  #isOver = false;
  readonly #options: Supervision;
  readonly #listener: ThreadListener;
  /**
   * A thread times out at the second of two checks. Between them, this process reads answers that arrived during a long
   * step or a suspension.
   */
  readonly #watchdog = new Watchdog(
    () => undefined,
    () => {
      if (this.#isStarved()) this.#watch();
      else this.#lose('it did not answer in time', { isLate: true });
    },
    1,
  );

  /** @throws Error if the system cannot create a thread */
  constructor(data: GrammarThreadData, options: Supervision, listener: ThreadListener) {
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
    if (message.type === 'begun') {
      this.#thread = message.thread;
      this.#computedMs = this.#threadMs();
      return;
    }
    this.#isLoaded = true;
    if (message.type === 'crashed') {
      this.#lose(message.message, { isCrashed: true });
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
    if (this.#pending.length === 0) {
      this.#watchdog.stop();
      return;
    }
    this.#silentSince = monotonicMs();
    this.#limitMs = this.#options.silenceMs ?? (this.#isLoaded ? SILENCE_MS : LOADING_MS);
    this.#watch();
  }

  #watch(): void {
    this.#computedMs = this.#threadMs();
    this.#watchdog.start(this.#limitMs / 2);
  }

  /** Whether the thread had too little processor time for an answer within the time limit. */
  #isStarved(): boolean {
    const before = this.#computedMs;
    const now = this.#threadMs();
    if (now === null || before === null || monotonicMs() - this.#silentSince > STARVED_MS) return false;
    return now - before < this.#limitMs / 2;
  }

  #threadMs(): number | null {
    return this.#options.threadMs === undefined ? threadTimeMs(this.#thread) : this.#options.threadMs();
  }

  #lose(why: string, { isCrashed = false, isLate = false } = {}): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#watchdog.stop();
    void this.#worker.terminate();
    const offender = this.#isLoaded ? (this.#pending[0] ?? null) : null;
    this.#listener.lost({ why, offender, isCrashed, wasLoaded: this.#isLoaded, isLate });
  }
}

/** @param thread the kernel's number @returns its processor time in ms; null where the system does not tell */
export function threadTimeMs(thread: number | null): number | null {
  if (thread === null) return null;
  try {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'latin1');
    // The name, in parentheses, may hold spaces. User and system time are fields 14 and 15 of the line.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    return Number.isFinite(ticks) ? ticks * TICK_MS : null;
  } catch {
    return null;
  }
}
