/**
 * Learnt values by owner. A tenant's own evidence counts in full, and the evidence of every other tenant up to a bound.
 * So one tenant moves what the scheduler expects of the others by a bounded part, whatever it sends.
 *
 * Must not know: what the evidence is of.
 */

/** Evidence that adds up. */
export interface Additive<E> {
  readonly none: E;
  add(a: E, b: E): E;
  scale(evidence: E, factor: number): E;
  /** Answers that the evidence is of. */
  answers(evidence: E): number;
}

/** Most owners; the least recently used one is forgotten. */
const MOST_OWNERS = 1024;

export class Owned<E> {
  /** Least recently used first. */
  readonly #own = new Map<string, E>();
  /** The bounded evidence of all owners; null after new evidence. */
  #bounded: E | null = null;

  /** @param mostForeign answers of an owner that count for another one, at most */
  constructor(
    private readonly kind: Additive<E>,
    private readonly mostForeign: number,
  ) {}

  /** Learns. @param fade factor on what the owner knows already */
  observe(owner: string, evidence: E, fade = 1): void {
    const before = this.kind.scale(this.#own.get(owner) ?? this.kind.none, fade);
    this.#own.delete(owner);
    this.#own.set(owner, this.kind.add(before, evidence));
    this.#bounded = null;
    const [oldest] = this.#own.keys();
    if (this.#own.size > MOST_OWNERS && oldest !== undefined) this.#own.delete(oldest);
  }

  /** The evidence that counts for an owner: its own, and the bounded part of each other one. */
  of(owner: string): E {
    const { kind } = this;
    this.#bounded ??= [...this.#own.values()]
      .map((each) => this.#bound(each))
      .reduce((a, b) => kind.add(a, b), kind.none);
    const own = this.#own.get(owner);
    if (own === undefined) return this.#bounded;
    return kind.add(kind.add(this.#bounded, kind.scale(this.#bound(own), -1)), own);
  }

  #bound(evidence: E): E {
    const answers = this.kind.answers(evidence);
    return answers > this.mostForeign ? this.kind.scale(evidence, this.mostForeign / answers) : evidence;
  }
}
