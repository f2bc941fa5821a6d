/** Counts the work on texts and lists: characters that are read, and items that are moved. Time says little on a busy machine. */

type Method = (this: unknown, ...args: unknown[]) => unknown;
/** The work of a call, by its result, this value, arguments, and the place at which a pattern began. */
type Cost = (result: unknown, self: string & unknown[], args: readonly unknown[], from: number) => number;

const all: Cost = (_, { length }) => length;
const one: Cost = () => 1;
/** Up to the place that is found. */
const found: Cost = (at, { length }, [part, from = 0]) =>
  ((at as number) < 0 ? length : (at as number) + String(part).length) - Number(from) + 1;
const cut: Cost = (result, { length }) => length - (result as string).length + 1;
const size: Cost = (result) => (result as string | unknown[]).length;

const COSTS: readonly (readonly [object, Readonly<Record<string | symbol, Cost>>])[] = [
  [
    String.prototype,
    {
      ...{ charCodeAt: one, codePointAt: one, slice: one, indexOf: found, trimEnd: cut, trimStart: cut, trim: cut },
      ...{ includes: all, lastIndexOf: all, replace: all, replaceAll: all, match: all, split: all, search: all },
      ...{ startsWith: (_, _self, [part]) => String(part).length, endsWith: (_, _self, [part]) => String(part).length },
      [Symbol.iterator]: all,
    },
  ],
  [
    Array.prototype,
    {
      ...{ shift: all, unshift: all, concat: size, slice: size, join: all, find: all, findIndex: all, some: all },
      splice: (taken, { length }) => length + (taken as unknown[]).length,
      [Symbol.iterator]: all,
    },
  ],
  [
    RegExp.prototype,
    {
      test: (_, _self, [text]) => String(text).length,
      exec: (match, _self, [text], from) =>
        ((match as RegExpExecArray | null)?.index ?? String(text).length) - from + 1,
    },
  ],
  [JSON, { parse: (_, _self, [text]) => String(text).length, stringify: size }],
  [Object, { entries: size }],
];

/** @returns characters and items that the run reads or moves */
export async function workOf(run: () => unknown): Promise<number> {
  let work = 0;
  const undo: (() => void)[] = [];
  for (const [owner, costs] of COSTS)
    for (const name of Reflect.ownKeys(costs)) {
      const own = owner as Record<string | symbol, Method>;
      const [method, cost] = [own[name], costs[name as string]];
      if (method === undefined || cost === undefined) throw new Error(`no ${String(name)}`);
      own[name] = function (...args) {
        const from = this instanceof RegExp ? this.lastIndex : 0;
        const result = Reflect.apply(method, this, args);
        work += cost(result, this as string & unknown[], args, from);
        return result;
      };
      undo.push(() => (own[name] = method));
    }
  try {
    await run();
  } finally {
    for (const each of undo) each();
  }
  return work;
}
