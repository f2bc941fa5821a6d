/**
 * The engine's end of the grammar thread: starts it with the first grammar, and passes masks to their sequences. If one
 * grammar breaks the thread, another thread continues all other grammars.
 *
 * Must not know: the grammar library, logits, scheduling.
 */
import { AfterThoughts, FREE_TEXT } from './after-thoughts.js';
import type { Constraint, ConstraintFailure } from '../constraint.js';
import type { Grammar } from '../../protocol/index.js';
import { GrammarSession } from './grammar-session.js';
import type { GrammarAnswer, ToGrammars } from './messages.js';
import { Quarantine } from './quarantine.js';
import { monotonicMs } from '../../util/clock.js';
import { FairQuota } from '../../util/fair-quota.js';
import { type Loss, SupervisedWorker, type Supervision } from './supervised-worker.js';

/** Threads in a row that may be late to load. */
const MOST_FAILURES = 3;

/** Most concurrent grammars of a tenant alone, and under twice as many of all: each parser holds some 15 MB. */
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

export interface GrammarOptions extends Supervision {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** Ids that end an answer; at least one. */
  readonly endTokens: readonly number[];
}

const lost = (why: string): GrammarsLost => new GrammarsLost(`the grammar thread was lost: ${why}`);

/** A request that waits for a parser. */
interface Waiting extends Opening {
  readonly tenant: string;
}

/** A parser in use. */
interface Held {
  readonly tenant: string;
  readonly since: number;
}

interface Opening {
  resolve(): void;
  reject(error: GrammarError | GrammarsLost | GrammarAbandoned): void;
}

export class Grammars {
  #thread: SupervisedWorker | null = null;
  /** Threads in a row that were late to load. */
  #failures = 0;
  readonly #sessions = new Map<string, GrammarSession>();
  readonly #opening = new Map<string, Opening>();
  /** Requests that wait for a parser, in order. */
  readonly #queue = new Map<string, Waiting>();
  readonly #held = new Map<string, Held>();
  readonly #shares = new FairQuota(MAX_OPEN_GRAMMARS);
  readonly #quarantine = new Quarantine();
  readonly #options: GrammarOptions;
  readonly #changed: () => void;

  /** @param changed called when a constraint has a new mask or has ended */
  constructor(options: GrammarOptions, changed: () => void) {
    this.#options = options;
    this.#changed = changed;
  }

  /**
   * Tenants share the parsers. A request of a tenant without room waits for one of its tenant's.
   * @param stopTokens ids that end this answer
   * @returns a constraint with its first mask
   * @throws GrammarError for an invalid grammar, GrammarsLost for a lost thread, GrammarAbandoned after `abandon`
   */
  async open(id: string, grammar: Grammar, stopTokens: readonly number[], tenant = ''): Promise<Constraint> {
    // Any text needs no parser.
    if (grammar.kind === 'free' && grammar.thoughts !== undefined)
      return new AfterThoughts(FREE_TEXT, grammar.thoughts);
    if (this.#shares.available(tenant) > 0) this.#hold(id, tenant);
    else await new Promise<void>((resolve, reject) => this.#queue.set(id, { tenant, resolve, reject }));
    const { endTokens: allEnds } = this.#options;
    const ownEnds = allEnds.filter((token) => stopTokens.includes(token));
    const send = (message: ToGrammars): void => {
      this.#send(message, grammar);
    };
    const session = new GrammarSession({ id, grammar, ownEnds, allEnds }, send, () => {
      if (this.#sessions.delete(id)) this.#free(id);
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

  /**
   * Milliseconds that a tenant's next request is expected to wait for a parser. A parser in use is expected to stay in
   * use as long as it has been, since answers of any length have a grammar.
   */
  expectedWaitMs(tenant: string, now: number): number {
    if (this.#shares.available(tenant) > 0) return 0;
    const ages = [...this.#held.values()].flatMap((held) => (held.tenant === tenant ? now - held.since : []));
    const all = ages.length > 0 ? ages : [...this.#held.values()].map(({ since }) => now - since);
    const ahead = [...this.#queue.values()].filter((each) => each.tenant === tenant).length;
    const turns = Math.ceil((ahead + 1) / Math.max(1, all.length));
    return (turns * all.reduce((sum, age) => sum + age, 0)) / Math.max(1, all.length);
  }

  #hold(id: string, tenant: string): void {
    this.#shares.acquire(tenant, 1);
    this.#held.set(id, { tenant, since: monotonicMs() });
  }

  /** Gives a parser to the tenant with the fewest; ties by arrival. */
  #free(id: string): void {
    const held = this.#held.get(id);
    this.#held.delete(id);
    if (held !== undefined) this.#shares.release(held.tenant, 1);
    for (;;) {
      const waiting = [...this.#queue].filter(([, { tenant }]) => this.#shares.available(tenant) > 0);
      const [first, ...others] = waiting;
      if (first === undefined) return;
      const heldBy = ([, { tenant }]: typeof first): number => this.#shares.held(tenant);
      const [nextId, next] = others.reduce((a, b) => (heldBy(b) < heldBy(a) ? b : a), first);
      this.#queue.delete(nextId);
      this.#hold(nextId, next.tenant);
      next.resolve();
    }
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
  #lose({ why, offender, isCrashed, wasLoaded, isLate }: Loss): void {
    this.#thread = null;
    this.#failures = wasLoaded ? 0 : this.#failures + 1;
    const isHopeless = !wasLoaded && (!isLate || this.#failures >= MOST_FAILURES);
    if (isHopeless) this.#failures = 0;
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
      // An answer that has begun goes on; a request that waits for a thread that is late may be sent again.
      const isLost = isHopeless || (!wasLoaded && this.#opening.has(id));
      if (isLost || !this.#takeUp(session)) this.#giveUp(id, error);
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
