/**
 * The engine's end of the grammar thread: starts it with the first grammar, and passes masks to their sequences. If one
 * grammar breaks the thread, another thread continues all other grammars.
 *
 * Must not know: the grammar library, logits, scheduling.
 */
import { AfterThoughts, FREE_TEXT } from './after-thoughts.js';
import type { Constraint } from '../constraint.js';
import type { Grammar } from '../../protocol/index.js';
import { GrammarAbandoned, GrammarError, GrammarsLost } from './errors.js';
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

/** Grammars of a tenant that the thread compiles. It takes them in order, and up to a second for each new parser. */
const MAX_OPENING = 2;

export interface GrammarOptions extends Supervision {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
  /** Ids that end an answer; at least one. */
  readonly endTokens: readonly number[];
}

/** A request with a grammar, from `open` to the end of its answer. */
interface Entry {
  readonly tenant: string;
  /** When it got a parser; null: it waits for one. */
  since: number | null;
  /** It has a parser, and no mask so far. */
  isOpening: boolean;
  /** Null without a parser. */
  session: GrammarSession | null;
  /** The wait for a parser, or for the first mask; null: neither. */
  wait: { resolve(): void; reject(error: GrammarError | GrammarsLost | GrammarAbandoned): void } | null;
}

/** @param begin the act to wait for; its error ends the wait */
const waited = (entry: Entry, begin?: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    begin?.();
    entry.wait = { resolve, reject };
  });

/** Ends a wait. @returns null if there was none */
function taken(entry: Entry | undefined): Entry['wait'] {
  const wait = entry?.wait ?? null;
  if (entry !== undefined) entry.wait = null;
  return wait;
}

export class Grammars {
  #thread: SupervisedWorker | null = null;
  /** Threads in a row that were late to load. */
  #failures = 0;
  /** In order of arrival. */
  readonly #entries = new Map<string, Entry>();
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
    const entry: Entry = { tenant, since: null, isOpening: false, session: null, wait: null };
    this.#entries.set(id, entry);
    try {
      if (this.#hasTurn(tenant)) this.#hold(entry);
      else await waited(entry);
      const session = this.#session(id, grammar, stopTokens);
      entry.session = session;
      this.#quarantine.check(grammar);
      // Throws if the system cannot create a thread; then nothing opens.
      await waited(entry, () => {
        session.open();
      });
      return grammar.thoughts === undefined ? session : new AfterThoughts(session, grammar.thoughts);
    } catch (error) {
      if (entry.session === null) this.#entries.delete(id);
      else entry.session.close();
      throw error;
    } finally {
      entry.isOpening = false;
      this.#takeNext();
    }
  }

  /** Ends the wait of a pending `open`: its parser, or its place in the queue, is free. */
  abandon(id: string): void {
    taken(this.#entries.get(id))?.reject(new GrammarAbandoned('the request has ended'));
  }

  /**
   * Milliseconds that a tenant's next request is expected to wait for a parser. A parser in use is expected to stay in
   * use as long as it has been, since answers of any length have a grammar.
   */
  expectedWaitMs(tenant: string, now: number): number {
    if (this.#shares.available(tenant) > 0) return 0;
    const entries = [...this.#entries.values()];
    const own = entries.filter((each) => each.tenant === tenant);
    const agesOf = (some: readonly Entry[]) => some.flatMap(({ since }) => (since === null ? [] : now - since));
    const ages = agesOf(own).length > 0 ? agesOf(own) : agesOf(entries);
    const ahead = own.filter(({ since }) => since === null).length;
    const turns = Math.ceil((ahead + 1) / Math.max(1, ages.length));
    return (turns * ages.reduce((sum, age) => sum + age, 0)) / Math.max(1, ages.length);
  }

  #session(id: string, grammar: Grammar, stopTokens: readonly number[]): GrammarSession {
    const { endTokens: allEnds } = this.#options;
    const ownEnds = allEnds.filter((token) => stopTokens.includes(token));
    const send = (message: ToGrammars): void => {
      if (message.type !== 'close') this.#thread ??= this.#start();
      this.#thread?.send(message, grammar);
    };
    return new GrammarSession({ id, grammar, ownEnds, allEnds }, send, () => {
      this.#free(id);
    });
  }

  /** Whether a tenant's next request gets a parser: the thread opens few of one tenant in front of all others. */
  #hasTurn(tenant: string): boolean {
    const opening = [...this.#entries.values()].filter((each) => each.isOpening && each.tenant === tenant);
    return opening.length < MAX_OPENING && this.#shares.available(tenant) > 0;
  }

  #hold(entry: Entry): void {
    this.#shares.acquire(entry.tenant, 1);
    entry.since = monotonicMs();
    entry.isOpening = true;
  }

  #free(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    this.#shares.release(entry.tenant, 1);
    this.#takeNext();
  }

  /** Gives parsers to the tenants with the fewest; ties by arrival. */
  #takeNext(): void {
    for (;;) {
      const [first, ...others] = [...this.#entries.values()].filter(
        ({ since, wait, tenant }) => since === null && wait !== null && this.#hasTurn(tenant),
      );
      if (first === undefined) return;
      const held = ({ tenant }: Entry): number => this.#shares.held(tenant);
      const next = others.reduce((a, b) => (held(b) < held(a) ? b : a), first);
      this.#hold(next);
      taken(next)?.resolve();
    }
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
      throw new GrammarsLost(error instanceof Error ? error.message : String(error));
    }
  }

  #answer(answer: GrammarAnswer): void {
    const entry = this.#entries.get(answer.id);
    const opening = taken(entry);
    if (answer.type === 'next') {
      entry?.session?.next(answer.mask, answer.enforced);
      opening?.resolve();
    } else if (opening !== null) opening.reject(new GrammarError(answer.message, answer.part));
    else if (entry?.session != null) entry.session.failed = { message: answer.message, isLost: false };
    this.#changed();
  }

  /** Fails the offender's request with the thread; all others continue on another thread, from their tokens. */
  #lose({ why, offender, isCrashed, wasLoaded, isLate }: Loss): void {
    this.#thread = null;
    this.#failures = wasLoaded ? 0 : this.#failures + 1;
    const isHopeless = !wasLoaded && (!isLate || this.#failures >= MOST_FAILURES);
    if (isHopeless) this.#failures = 0;
    const error = new GrammarsLost(why);
    if (offender !== null) {
      // The same grammar would break the next thread as well.
      const own = isCrashed ? new GrammarError('the grammar library crashes on this grammar') : error;
      this.#quarantine.add(offender.grammar, own);
      this.#giveUp(this.#entries.get(offender.id), error, own);
    }
    for (const entry of this.#entries.values()) {
      const { session, wait } = entry;
      // A failed or complete session that is still open requests nothing more, and neither does a request without one.
      if (session?.failed !== null || session.complete) continue;
      // An answer that has begun goes on; a request that waits for a thread that is late may be sent again.
      const isLost = isHopeless || (!wasLoaded && wait !== null);
      if (isLost || !this.#takeUp(session)) this.#giveUp(entry, error);
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

  #giveUp(entry: Entry | undefined, error: GrammarsLost, whileOpening: GrammarError | GrammarsLost = error): void {
    if (entry?.session != null) entry.session.failed = { message: error.message, isLost: true };
    taken(entry)?.reject(whileOpening);
  }
}
