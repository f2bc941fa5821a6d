/**
 * Finds stop strings in a growing text, and holds back an end that may become one.
 *
 * The automaton of Aho and Corasick: each character of the text costs a constant time, however many stop strings a
 * request has. Its states are made when a text reaches them, because a request may state megabytes of stop strings. All
 * choices of a request share the automaton.
 */
export interface StopScan {
  /** Text that may be sent. */
  readonly text: string;
  /** The stop string that was found, or null. Text after a stop string is never sent. */
  readonly stop: string | null;
}

/** A prefix of stop strings, with which the text so far ends. */
class State {
  /** The longest proper suffix that is a state as well. The root's is the root. */
  shorter: State = this;
  /** The longest stop string that is a suffix of the prefix, or null. */
  stop: string | null;
  /** By the next UTF-16 unit, the stop strings that go on with it; null until one is asked for. */
  #groups: Map<number, readonly string[]> | null = null;
  /** The first child, with its unit: most states have one. */
  #unit = -1;
  #child: State | undefined;
  #others: Map<number, State> | null = null;
  readonly #members: readonly string[];

  /**
   * @param members the stop strings with this prefix
   * @param length UTF-16 units of the prefix
   */
  constructor(
    members: readonly string[],
    readonly length: number,
  ) {
    this.#members = members;
    this.stop = members.find((each) => each.length === length) ?? null;
  }

  /** The child that exists. */
  childAt(unit: number): State | undefined {
    return unit === this.#unit ? this.#child : this.#others?.get(unit);
  }

  /** Makes a child, without its suffixes. @returns null where no stop string goes on with the unit */
  makeChild(unit: number): State | null {
    const members = this.#with(unit);
    if (members === undefined) return null;
    const child = new State(members, this.length + 1);
    if (this.#child === undefined) [this.#unit, this.#child] = [unit, child];
    else (this.#others ??= new Map()).set(unit, child);
    return child;
  }

  #with(unit: number): readonly string[] | undefined {
    const members = this.#members;
    if (members.length === 1) return members[0]?.charCodeAt(this.length) === unit ? members : undefined;
    if (this.#groups === null) {
      const groups = new Map<number, string[]>();
      for (const each of members) {
        if (each.length === this.length) continue;
        const own = each.charCodeAt(this.length);
        const group = groups.get(own);
        if (group === undefined) groups.set(own, [each]);
        else group.push(each);
      }
      this.#groups = groups;
      // A long prefix that all share keeps one list.
      for (const [own, { length }] of groups) if (length === members.length) this.#groups = new Map([[own, members]]);
    }
    return this.#groups.get(unit);
  }
}

/** The stop strings of a request. */
export class StopList {
  readonly root: State;

  /** @param stops not empty strings */
  constructor(readonly stops: readonly string[]) {
    this.root = new State(stops, 0);
  }

  /** The state after another UTF-16 unit of the text. */
  after(state: State, unit: number): State {
    let from = state;
    for (;;) {
      const next = from.childAt(unit) ?? this.#make(from, unit);
      if (next !== null) return next;
      if (from === this.root) return from;
      from = from.shorter;
    }
  }

  /**
   * Makes a state and those of its suffixes that do not exist yet. The loop stands for a deep recursion.
   * @returns null where no stop string goes on with the unit
   */
  #make(from: State, unit: number): State | null {
    const first = from.makeChild(unit);
    const made: State[] = [];
    let state = first;
    let parent = from;
    while (state !== null) {
      made.push(state);
      let suffix: State | null = null;
      let isNew = false;
      while (suffix === null && parent !== this.root) {
        parent = parent.shorter;
        const known = parent.childAt(unit);
        isNew = known === undefined;
        suffix = known ?? parent.makeChild(unit);
      }
      state.shorter = suffix ?? this.root;
      state = isNew ? suffix : null;
    }
    // The shortest come first: each inherits the stop string of its suffix.
    for (const each of made.reverse()) each.stop ??= each.shorter.stop;
    return first;
  }
}

export class StopStrings {
  #held = '';
  readonly #list: StopList;
  #state: State;

  constructor(list: StopList) {
    this.#list = list;
    this.#state = list.root;
  }

  /** If several stop strings end in the text, the one that starts first counts. */
  push(text: string): StopScan {
    const before = this.#held.length;
    const whole = this.#held + text;
    let at = Infinity;
    let found: string | null = null;
    for (let index = 0; index < text.length; index++) {
      this.#state = this.#list.after(this.#state, text.charCodeAt(index));
      const { stop } = this.#state;
      if (stop === null) continue;
      const start = before + index + 1 - stop.length;
      if (start < at) [at, found] = [start, stop];
    }
    if (found !== null) {
      this.end();
      return { text: whole.slice(0, at), stop: found };
    }
    this.#held = whole.slice(whole.length - this.#state.length);
    return { text: whole.slice(0, whole.length - this.#held.length), stop: null };
  }

  /** @returns the text that was held back, for an answer that ends without a stop string */
  end(): string {
    const held = this.#held;
    this.#held = '';
    this.#state = this.#list.root;
    return held;
  }
}
