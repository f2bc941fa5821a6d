/**
 * The latest starts of conditional promises. Their condition may hold for all of them at any instant, and then all of
 * them start: so all together must fit.
 *
 * The rule. The engine serves prompts in the order of their deadlines, and decodes up to `slots` of them at once. So
 * the sentence of a part takes its own time beside `n` others, `sentenceMs + besideMs * n`, and two further times. One
 * is that of the parts that start with it and are due before it. It sums their prompts (`prefillMs`) as long as all
 * have slots, else their parts of a full engine (`fullMs`). The other is that of the prompts that are due behind it, at
 * most one a slot: the engine holds further ones for rows that are due first. The latest start of a part is the last
 * instant of a start together with all parts that are due behind it, with each of them in time.
 */

/** The latest starts of parts, which are due in this order. @param slots sequences that the engine runs at once */
export function latestStarts(parts: readonly PromisedPart[], slots: number): number[] {
  const beside = Math.max(0, Math.min(parts.length, slots) - 1);
  /** Sums of the parts before an index. */
  const prompts = sumsOf(parts.map(({ prefillMs }) => prefillMs));
  const fulls = sumsOf(parts.map(({ fullMs }) => fullMs));
  const between = (sums: readonly number[], from: number, to: number): number => (sums[to] ?? 0) - (sums[from] ?? 0);
  const behind = parts.map((_, i) => between(prompts, i + 1, Math.min(parts.length, i + 1 + beside)));
  return parts.map((_, first) => {
    let latest = Infinity;
    for (let i = first; i < parts.length; i += 1) {
      const part = parts[i];
      if (part === undefined) break;
      const before = between(i - first < slots ? prompts : fulls, first, i);
      const ownMs = part.sentenceMs + part.besideMs * beside;
      latest = Math.min(latest, part.dueAt - before - ownMs - (behind[i] ?? 0));
    }
    return latest;
  });
}

/** The latest starts of parts in any order. */
export function startsByPart<T extends PromisedPart>(parts: readonly T[], slots: number): ReadonlyMap<T, number> {
  const due = [...parts].sort((a, b) => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt));
  const starts = latestStarts(due, slots);
  return new Map(due.map((part, i) => [part, starts[i] ?? Infinity]));
}

/** The sum of the values before each index, and of all. */
function sumsOf(values: readonly number[]): number[] {
  const sums = [0];
  for (const value of values) sums.push((sums.at(-1) ?? 0) + value);
  return sums;
}

/** Engine time of the prompt at the shallowest exit, and of the tokens that a promise covers, ms. */
export interface PromisedWork {
  /** Of the prompt alone. */
  readonly prefillMs: number;
  /** Of both, as a share of steps that have a row in every slot. */
  readonly fullMs: number;
  /** The delay by each further row that decodes beside it. */
  readonly besideMs: number;
}

/** The part of a promise in the engine's time. Instants are on the monotonic clock, times in ms. */
export interface PromisedPart extends PromisedWork {
  /** The end of its sentence, at the latest. */
  readonly dueAt: number;
  /** Of its prompt and its sentence, beside the promises of that moment. */
  readonly sentenceMs: number;
}

/** The same of a net's request, with the parts of promises to requests of no net. */
export interface NetWork extends PromisedWork {
  readonly direct: readonly PromisedPart[];
}
