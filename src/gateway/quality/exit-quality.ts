/**
 * Quality of each exit as an estimate: the model's measured value as the prior, audits as evidence. An exit without a
 * measurement has the estimate of a second instance as its prior, if there is one: a looped model's gate feeds it.
 *
 * Pure. Must not know: audits, requests, files.
 *
 * - Unit: agreement with the base's full depth, as in the manifest. An audit measures agreement with the served full
 *   depth, so its share counts times full depth's own value.
 * - The prior counts as PRIOR_ANSWERS answers. Evidence fades: the last MEMORY_ANSWERS answers count most.
 * - Each API key has its own estimate, and each kind of its requests one that starts from it. Evidence of any other key
 *   counts as at most MOST_FOREIGN answers. So one key moves the estimates of all others by at most .1, and by as much
 *   again where the prior is an estimate.
 */

/** Requests of a similar kind. A null key stands for all clients without a key. */
export interface QualityGroup {
  readonly kind: string;
  readonly key: string | null;
}

export interface PriorExit {
  readonly layer: number;
  /** The manifest's agreement; absent without a measurement. */
  readonly agreement?: number | undefined;
}

/** Sums over faded answers: their number, and their shares of agreement. */
export interface Evidence {
  readonly answers: number;
  readonly agreement: number;
}

const NONE: Evidence = { answers: 0, agreement: 0 };

interface Sums {
  /** By key, then by exit. */
  readonly keys: ReadonlyMap<string | null, readonly Evidence[]>;
  /** Of all keys, each one bounded; by exit. */
  readonly bounded: readonly Evidence[];
}

/** Evidence of one group, by exit. */
export interface Cell extends QualityGroup {
  readonly exits: readonly Evidence[];
}

/** One exit as `/props` shows it. */
export interface QualityRow {
  readonly layer: number;
  readonly prior: number;
  /** Answers that count as evidence. */
  readonly answers: number;
  /** Audited agreement with the served full depth; null without evidence. */
  readonly audited: number | null;
  readonly estimate: number;
}

const PRIOR_ANSWERS = 40;
const MEMORY_ANSWERS = 1000;
/** As MOST_FOREIGN / (PRIOR_ANSWERS + MOST_FOREIGN) = .1. */
const MOST_FOREIGN = PRIOR_ANSWERS / 9;
/** Tokens of an answer that counts in full; a shorter one counts for less. */
const FULL_ANSWER_TOKENS = 32;
/** Most groups; the least used one is forgotten. */
const MOST_CELLS = 1024;

export class ExitQuality {
  /** By exit, shallowest first. */
  readonly priors: readonly number[];
  readonly #layers: readonly number[];
  /** Estimates that are the priors of exits without a measurement, by exit; null for a measured one. */
  readonly #guesses: readonly (ExitQuality | null)[];
  /** Least recently used first. */
  readonly #cells = new Map<string, Cell>();
  /** Null after new evidence. */
  #summed: Sums | null = null;

  /**
   * @param exits shallowest first; an exit without a measurement counts with its share of the layers
   * @param guess estimates of the same exits, which come before that share
   */
  constructor(exits: readonly PriorExit[], guess: ExitQuality | null = null) {
    const deepest = exits.at(-1)?.layer ?? 1;
    this.#layers = exits.map(({ layer }) => layer);
    this.priors = exits.map(({ layer, agreement }) => agreement ?? layer / deepest);
    this.#guesses = exits.map(({ agreement }) => (agreement === undefined ? guess : null));
  }

  /** Learns that an exit agreed with full depth at so many tokens of an answer. An unknown layer is ignored. */
  observe(group: QualityGroup, layer: number, agreeing: number, tokens: number): void {
    const exit = this.#layers.indexOf(layer);
    if (exit < 0 || tokens <= 0) return;
    const before = this.#cells.get(nameOf(group))?.exits ?? this.#layers.map(() => NONE);
    const weight = Math.min(1, tokens / FULL_ANSWER_TOKENS);
    const kept = 1 - 1 / MEMORY_ANSWERS;
    const exits = before.map(({ answers, agreement }, i) =>
      i === exit
        ? { answers: answers * kept + weight, agreement: agreement * kept + weight * (agreeing / tokens) }
        : { answers, agreement },
    );
    this.#keep({ kind: group.kind, key: group.key, exits });
  }

  /** Estimates by exit for a group. */
  of({ kind, key }: QualityGroup): number[] {
    return this.priors.map((_, exit) => {
      const own = this.#ofKey(key, exit);
      const ofKind = this.#cells.get(nameOf({ kind, key }))?.exits[exit];
      return shrunk(own, this.#scaled(ofKind, exit));
    });
  }

  /** The estimates of all kinds of a key, with their sources. */
  rows(key: string | null): QualityRow[] {
    return this.#layers.map((layer, exit) => {
      const { answers, agreement } = added(this.#own(key, exit), this.#foreign(key, exit));
      const audited = answers > 0 ? agreement / answers : null;
      return { layer, prior: this.#prior(key, exit), answers, audited, estimate: this.#ofKey(key, exit) };
    });
  }

  /** All evidence, as plain data. */
  cells(): Cell[] {
    return [...this.#cells.values()];
  }

  /** Takes evidence of an earlier run. Cells of another number of exits are ignored. */
  restore(cells: readonly Cell[]): void {
    for (const cell of cells) if (cell.exits.length === this.#layers.length) this.#keep(cell);
  }

  #keep(cell: Cell): void {
    this.#summed = null;
    const name = nameOf(cell);
    this.#cells.delete(name);
    this.#cells.set(name, cell);
    const [oldest] = this.#cells.keys();
    if (this.#cells.size > MOST_CELLS && oldest !== undefined) this.#cells.delete(oldest);
  }

  #ofKey(key: string | null, exit: number): number {
    const start = shrunk(this.#prior(key, exit), this.#scaled(this.#foreign(key, exit), exit));
    return shrunk(start, this.#scaled(this.#own(key, exit), exit));
  }

  #prior(key: string | null, exit: number): number {
    const guess = this.#guesses[exit] ?? null;
    return guess === null ? (this.priors[exit] ?? 0) : guess.#ofKey(key, exit);
  }

  #own(key: string | null, exit: number): Evidence {
    return this.#sums().keys.get(key)?.[exit] ?? NONE;
  }

  /** Bounded evidence of all other keys. */
  #foreign(key: string | null, exit: number): Evidence {
    const { answers, agreement } = this.#sums().bounded[exit] ?? NONE;
    const own = bounded(this.#own(key, exit));
    return { answers: Math.max(0, answers - own.answers), agreement: Math.max(0, agreement - own.agreement) };
  }

  #sums(): Sums {
    if (this.#summed !== null) return this.#summed;
    const keys = new Map<string | null, Evidence[]>();
    for (const { key, exits } of this.#cells.values()) {
      const before = keys.get(key);
      keys.set(
        key,
        exits.map((evidence, exit) => added(evidence, before?.[exit] ?? NONE)),
      );
    }
    const total = (exit: number): Evidence =>
      [...keys.values()].map((exits) => bounded(exits[exit] ?? NONE)).reduce(added, NONE);
    return (this.#summed = { keys, bounded: this.#layers.map((_, exit) => total(exit)) });
  }

  /** Evidence in the unit of the priors. Full depth is the measure, so it has none. */
  #scaled(evidence: Evidence | undefined, exit: number): Evidence {
    if (evidence === undefined || exit === this.priors.length - 1) return NONE;
    return { answers: evidence.answers, agreement: evidence.agreement * (this.priors.at(-1) ?? 1) };
  }
}

/** A mean that starts as a prior and moves with evidence. */
function shrunk(prior: number, { answers, agreement }: Evidence): number {
  return (PRIOR_ANSWERS * prior + agreement) / (PRIOR_ANSWERS + answers);
}

function added(a: Evidence, b: Evidence): Evidence {
  return { answers: a.answers + b.answers, agreement: a.agreement + b.agreement };
}

/** The part of a key's evidence that counts for other keys. */
function bounded({ answers, agreement }: Evidence): Evidence {
  const share = answers > 0 ? Math.min(1, MOST_FOREIGN / answers) : 0;
  return { answers: answers * share, agreement: agreement * share };
}

function nameOf({ kind, key }: QualityGroup): string {
  return JSON.stringify([kind, key]);
}
