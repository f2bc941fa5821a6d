/**
 * The engine's end of the thread of grammars: starts it with the first grammar, hands masks to their sequences.
 *
 * Knows: threads and the messages. Must not know: the grammar library, logits, scheduling.
 */
import { Worker } from 'node:worker_threads';
import type { Constraint, ConstraintFailure } from '../constraint.js';
import type { Grammar } from '../messages.js';
import type { FromGrammars, GrammarThreadData, ToGrammars } from './messages.js';

/** Grammars at once: each parser holds some 15 MB. More wait. */
const MAX_OPEN = 8;
/** A thread that is silent for longer is stuck in a grammar, or starved, ms. */
const SILENCE_MS = 10_000;
/** The same before its first word: it loads the library, a second's work on a machine that may be busy. */
const LOADING_MS = 30_000;

/** No grammar that can be kept to; the message is meant for the caller. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';

  constructor(
    message: string,
    /** Index of the function that is wrong, or null. */
    readonly part: number | null,
  ) {
    super(message);
  }
}

/** The thread was lost, whatever the grammar. The message may tell of this machine: it is for the log. */
export class GrammarsLost extends Error {
  override readonly name = 'GrammarsLost';
}

/** Nobody waits for the grammar any more. */
export class GrammarAbandoned extends Error {
  override readonly name = 'GrammarAbandoned';
}

export interface GrammarOptions {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** Ids that end an answer; at least one. */
  readonly endTokens: readonly number[];
  /** For tests: how long the thread may be silent, ms. */
  readonly silenceMs?: number;
}

/** @throws GrammarsLost */
function startWorker(workerData: GrammarThreadData): Worker {
  try {
    return new Worker(new URL('./thread.js', import.meta.url), { workerData });
  } catch (error) {
    throw lost(error instanceof Error ? error.message : String(error));
  }
}

const lost = (why: string): GrammarsLost => new GrammarsLost(`the thread of grammars was lost: ${why}`);

class Live implements Constraint {
  mask: Uint8Array | null = null;
  binds = false;
  free = false;
  ends = false;
  failed: ConstraintFailure | null = null;

  constructor(
    private readonly id: string,
    /** End tokens that this request may choose. */
    private readonly ownEnds: readonly number[],
    private readonly allEnds: readonly number[],
    private readonly send: (message: ToGrammars) => void,
    private readonly closed: () => void,
  ) {}

  /** @param mask of the library: it knows one end token, the first. Null where nothing may come */
  next(mask: Uint8Array | null, binds: boolean): void {
    this.binds = binds;
    if (mask !== null) {
      const mayEnd = mask[this.allEnds[0] ?? -1] === 1;
      for (const id of this.allEnds) mask[id] = mayEnd && this.ownEnds.includes(id) ? 1 : 0;
    }
    this.ends = mask?.includes(1) !== true;
    this.mask = mask;
  }

  accept(token: number): void {
    if (this.free) return;
    if (!this.binds && this.mask?.[token] !== 1) {
      this.free = true;
      this.mask = null;
      this.close();
      return;
    }
    this.mask = null;
    this.send({ type: 'accept', id: this.id, token });
  }

  close(): void {
    this.send({ type: 'close', id: this.id });
    this.closed();
  }
}

interface Opening {
  resolve(): void;
  reject(error: GrammarError | GrammarsLost | GrammarAbandoned): void;
}

export class Grammars {
  #thread: Worker | null = null;
  readonly #live = new Map<string, Live>();
  readonly #opening = new Map<string, Opening>();
  /** Those that wait for a parser, in order. */
  readonly #queue = new Map<string, Opening>();
  /** Answers that the thread owes. */
  #owed = 0;
  #isLoaded = false;
  #watch: NodeJS.Timeout | null = null;

  /** @param changed called when a constraint has a new mask, or none any more */
  constructor(
    private readonly options: GrammarOptions,
    private readonly changed: () => void,
  ) {}

  /**
   * @param stopTokens ids that end this answer
   * @returns a constraint with its first mask
   * @throws GrammarError for a grammar that can't be kept to, GrammarsLost where the thread was lost, GrammarAbandoned
   */
  async open(id: string, grammar: Grammar, stopTokens: readonly number[]): Promise<Constraint> {
    if (this.#live.size >= MAX_OPEN) {
      await new Promise<void>((resolve, reject) => this.#queue.set(id, { resolve, reject }));
    }
    const { endTokens } = this.options;
    const own = endTokens.filter((token) => stopTokens.includes(token));
    const send = (message: ToGrammars): void => {
      this.#send(message);
    };
    const live = new Live(id, own, endTokens, send, () => {
      if (this.#live.delete(id)) this.#next();
    });
    this.#live.set(id, live);
    try {
      await new Promise<void>((resolve, reject) => {
        // Throws where the system has no room for a thread: then nothing opens.
        this.#send({ type: 'open', id, grammar });
        this.#opening.set(id, { resolve, reject });
      });
      return live;
    } catch (error) {
      live.close();
      throw error;
    }
  }

  /** Ends the wait for a constraint, if `open` is still to give it: the parser, or the place in the queue, is free. */
  abandon(id: string): void {
    for (const waiting of [this.#queue, this.#opening]) {
      const opening = waiting.get(id);
      waiting.delete(id);
      opening?.reject(new GrammarAbandoned('nobody waits for it'));
    }
  }

  #next(): void {
    const [first] = this.#queue;
    if (first === undefined) return;
    const [id, opening] = first;
    this.#queue.delete(id);
    opening.resolve();
  }

  #send(message: ToGrammars): void {
    if (message.type === 'close') {
      this.#thread?.postMessage(message);
      return;
    }
    this.#thread ??= this.#start();
    this.#thread.postMessage(message);
    this.#owed++;
    // What is asked of a thread that is stuck makes it no younger.
    if (this.#watch === null) this.#guard();
  }

  #start(): Worker {
    const [end = 0] = this.options.endTokens;
    const workerData: GrammarThreadData = { tokenizer: this.options.tokenizer, end };
    this.#isLoaded = false;
    const thread = startWorker(workerData);
    thread.on('message', (message: FromGrammars) => {
      // What an ended one had still to say is not owed any more.
      if (this.#thread !== thread) return;
      this.#owed--;
      this.#isLoaded = true;
      this.#guard();
      this.#answer(message);
      if (message.type === 'broken') this.#lose(thread, message.message);
    });
    thread.on('error', (error) => {
      this.#lose(thread, error.message);
    });
    thread.on('exit', (code) => {
      this.#lose(thread, `it ended with code ${code}`);
    });
    // After its listeners, which would hold the process again.
    thread.unref();
    return thread;
  }

  #answer(message: FromGrammars): void {
    const { id } = message;
    const opening = this.#opening.get(id);
    this.#opening.delete(id);
    if (message.type === 'broken') {
      // Whoever brought the grammar along must not bring it again. In mid-answer it is lost like all others (`#lose`).
      opening?.reject(new GrammarError('the grammar library breaks down on it', null));
    } else if (message.type === 'wrong') {
      if (opening) opening.reject(new GrammarError(message.message, message.part));
      else this.#fail(id, { message: message.message, isLost: false });
    } else {
      this.#live.get(id)?.next(message.mask, message.binds);
      opening?.resolve();
    }
    this.changed();
  }

  #fail(id: string, why: ConstraintFailure): void {
    const live = this.#live.get(id);
    if (live) live.failed = why;
  }

  /** Ends a thread that is stuck while answers are owed. Begins anew where it watches already. */
  #guard(): void {
    this.#relax();
    const thread = this.#thread;
    if (this.#owed === 0 || thread === null) return;
    this.#watch = setTimeout(
      () => {
        this.#lose(thread, 'it takes too long');
      },
      this.options.silenceMs ?? (this.#isLoaded ? SILENCE_MS : LOADING_MS),
    );
    this.#watch.unref();
  }

  #relax(): void {
    if (this.#watch !== null) clearTimeout(this.#watch);
    this.#watch = null;
  }

  /** Everything that the thread held is lost with it; the next grammar starts another one. */
  #lose(thread: Worker, why: string): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    this.#owed = 0;
    this.#relax();
    void thread.terminate();
    const error = lost(why);
    for (const id of this.#live.keys()) this.#fail(id, { message: error.message, isLost: true });
    const opening = [...this.#opening.values()];
    this.#opening.clear();
    for (const each of opening) each.reject(error);
    this.changed();
  }
}
