/** Fields of an upstream's own, joined from the chunks of a stream. */
import type { Delta } from './choice.js';

export type Fields = Record<string, unknown>;

/** Texts that name a thing, and so come once. */
const NAMES = new Set(['role', 'id', 'type', 'name', 'finish_reason', 'stop_reason']);

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Fields of a server have any name, `__proto__` as well. */
export const noFields = (): Fields => Object.create(null) as Fields;

/** The places of the items with an index, by the list that has them. */
const places = new WeakMap<readonly unknown[], Map<number, number>>();

/** Joins a part of a value with the parts before it: texts and lists grow, items with an index grow by themselves. */
function joined(name: string, before: unknown, part: unknown): unknown {
  if (part === undefined || part === null) return before ?? part;
  if (typeof before === 'string' && typeof part === 'string') return NAMES.has(name) ? part : before + part;
  if (Array.isArray(part)) return addItems(Array.isArray(before) ? before : [], part);
  if (isFields(part)) return addFields(isFields(before) ? before : noFields(), part);
  return part;
}

/** Adds to these fields in place: a copy would grow with each chunk. */
export function addFields(whole: Fields, part: Readonly<Fields> = {}): Fields {
  for (const [name, value] of Object.entries(part)) whole[name] = joined(name, whole[name], value);
  return whole;
}

function addItems(list: unknown[], part: readonly unknown[]): unknown[] {
  for (const item of part) {
    const index = isFields(item) ? item.index : undefined;
    const place = typeof index === 'number' ? placeOf(list, index) : list.length;
    list[place] = joined('', list[place], item);
  }
  return list;
}

function placeOf(list: readonly unknown[], index: number): number {
  const known = places.get(list) ?? new Map<number, number>();
  places.set(list, known);
  const place = known.get(index) ?? list.length;
  known.set(index, place);
  return place;
}

/** The text of a piece for an API without refusals of their own. */
export function saidOf({ text, more }: Delta): string {
  const refusal = more?.delta.refusal;
  return typeof refusal === 'string' ? text + refusal : text;
}
