/**
 * The engine's end of the grammar thread: starts it with the first grammar, and passes masks to their sequences. If one
 * grammar breaks the thread, another thread continues all other grammars.
 *
 * Must not know: the grammar library, logits, scheduling.
 */
import { AfterThoughts, FREE_TEXT } from './after-thoughts.js';
import type { Constraint, ConstraintFailure } from '../sampling/constraint.js';
import type { Grammar } from '../protocol.js';
import { GrammarSession } from './grammar-session.js';
import type { GrammarAnswer, ToGrammars } from './messages.js';
import { Quarantine } from './quarantine.js';
import { type Loss, SupervisedWorker } from './supervised-worker.js';

/** Most concurrent grammars: each parser holds some 15 MB. Further requests wait. */
const MAX_OPEN_GRAMMARS = 8;

/** The grammar is invalid; the message is meant for the client. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';

  constructor(
    message: string,
    /** Index of the function with the fault, or null. */
    readonly part: number | null,
  ) {
    super(message);
  }
}

/** The thread was lost, whatever the grammar. The message may describe this machine: it is for the log. */
export class GrammarsLost extends Error {
  override readonly name = 'GrammarsLost';
}

/** The request ended before its grammar was open. */
export class GrammarAbandoned extends Error {
  override readonly name = 'GrammarAbandoned';
}

export interface GrammarOptions {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** Ids that end an answer; at least one. */
  readonly endTokens: readonly number[];
  /** For tests: longest silence of the thread, ms. */
  readonly silenceMs?: number;
}

const lost = (why: string): GrammarsLost => new GrammarsLost(`the grammar thread was lost: ${why}`);

interface Opening {
  resolve(): void;
  reject(error: GrammarError | GrammarsLost | GrammarAbandoned): void;
}

export class Grammars {
  #thread: SupervisedWorker | null = null;
  readonly #sessions = new Map<string, GrammarSession>();
  readonly #opening = new Map<string, Opening>();
  /** Requests that wait for a parser, in order. */
  readonly #queue = new Map<string, Opening>();
  readonly #quarantine = new Quarantine();
  readonly #options: GrammarOptions;
  readonly #changed: () => void;

  /** @param changed called when a constraint has a new mask or has ended */
  constructor(options: GrammarOptions, changed: () => void) {
    this.#options = options;
    this.#changed = changed;
  }

  /**
   * @param stopTokens ids that end this answer
   * @returns a constraint with its first mask
   * @throws GrammarError for an invalid grammar, GrammarsLost for a lost thread, GrammarAbandoned after `abandon`
   */
  async open(id: string, grammar: Grammar, stopTokens: readonly number[]): Promise<Constraint> {
    // Any text needs no parser.
    if (grammar.kind === 'free' && grammar.thoughts !== undefined)
      return new AfterThoughts(FREE_TEXT, grammar.thoughts);
    if (this.#sessions.size >= MAX_OPEN_GRAMMARS) {
      await new Promise<void>((resolve, reject) => this.#queue.set(id, { resolve, reject }));
    }
    const { endTokens: allEnds } = this.#options;
    const ownEnds = allEnds.filter((token) => stopTokens.includes(token));
    const send = (message: ToGrammars): void => {
      this.#send(message, grammar);
    };
    const session = new GrammarSession({ id, grammar, ownEnds, allEnds }, send, () => {
      if (this.#sessions.delete(id)) this.#next();
    });
    this.#sessions.set(id, session);
    try {
      this.#quarantine.check(grammar);
      await new Promise<void>((resolve, reject) => {
        // Throws if the system cannot create a thread; then nothing opens.
        session.open();
        this.#opening.set(id, { resolve, reject });
      });
      return grammar.thoughts === undefined ? session : new AfterThoughts(session, grammar.thoughts);
    } catch (error) {
      session.close();
      throw error;
    }
  }

  /** Ends the wait of a pending `open`: its parser, or its place in the queue, is free. */
  abandon(id: string): void {
    for (const waiting of [this.#queue, this.#opening]) {
      const opening = waiting.get(id);
      waiting.delete(id);
      opening?.reject(new GrammarAbandoned('the request has ended'));
    }
  }

  #next(): void {
    const [first] = this.#queue;
    if (first === undefined) return;
    const [id, opening] = first;
    this.#queue.delete(id);
    opening.resolve();
  }

  /** @throws GrammarsLost */
  #send(message: ToGrammars, grammar: Grammar): void {
    if (message.type !== 'close') this.#thread ??= this.#start();
    this.#thread?.send(message, grammar);
  }

  /** @throws GrammarsLost */
  #start(): SupervisedWorker {
    const { tokenizer, endTokens } = this.#options;
    try {
      return new SupervisedWorker({ tokenizer, end: endTokens[0] ?? 0 }, this.#options, {
        answered: (answer) => {
          this.#answer(answer);
        },
        lost: (loss) => {
          this.#lose(loss);
        },
      });
    } catch (error) {
      throw lost(error instanceof Error ? error.message : String(error));
    }
  }

  #answer(answer: GrammarAnswer): void {
    const { id } = answer;
    const opening = this.#opening.get(id);
    this.#opening.delete(id);
    if (answer.type === 'invalid') {
      if (opening) opening.reject(new GrammarError(answer.message, answer.part));
      else this.#fail(id, { message: answer.message, isLost: false });
    } else {
      this.#sessions.get(id)?.next(answer.mask, answer.enforced);
      opening?.resolve();
    }
    this.#changed();
  }

  #fail(id: string, why: ConstraintFailure): void {
    const session = this.#sessions.get(id);
    if (session) session.failed = why;
  }

  /** Fails the offender's request with the thread; all others continue on another thread, from their tokens. */
  #lose({ why, offender, isCrashed, wasLoaded }: Loss): void {
    this.#thread = null;
    const error = lost(why);
    if (offender !== null) {
      // The same grammar would break the next thread as well.
      const own = isCrashed ? new GrammarError('the grammar library crashes on this grammar', null) : error;
      this.#quarantine.add(offender.grammar, own);
      this.#giveUp(offender.id, error, own);
    }
    for (const [id, session] of this.#sessions) {
      // A failed or complete session that is still open requests nothing more.
      if (session.failed !== null || session.complete) continue;
      if (!(wasLoaded && this.#takeUp(session))) this.#giveUp(id, error);
    }
    this.#changed();
  }

  /** @returns whether a thread took it up */
  #takeUp(session: GrammarSession): boolean {
    try {
      session.open();
      return true;
    } catch {
      return false;
    }
  }

  #giveUp(id: string, error: GrammarsLost, whileOpening: GrammarError | GrammarsLost = error): void {
    const opening = this.#opening.get(id);
    this.#opening.delete(id);
    this.#fail(id, { message: error.message, isLost: true });
    opening?.reject(whileOpening);
  }
}
