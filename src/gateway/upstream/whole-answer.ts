/** One body out of the chunks of a stream, for a client that asked for none. Fields of a server's own are kept. */
import { without } from './json-fields.js';
import type { ChunkChoice, ChunkJson } from './chunk.js';

type Fields = Readonly<Record<string, unknown>>;
type Open = Record<string, unknown>;

/** Texts that name a thing, and so come once. */
const NAMES = new Set(['role', 'id', 'type', 'name', 'finish_reason', 'stop_reason']);

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Joins a part of a value with the parts before it: texts and lists grow, items with an index grow by themselves. */
function joined(name: string, before: unknown, part: unknown): unknown {
  if (part === undefined || part === null) return before ?? part;
  if (typeof before === 'string' && typeof part === 'string') return NAMES.has(name) ? part : before + part;
  if (Array.isArray(part)) return joinedList(Array.isArray(before) ? before : [], part);
  if (isFields(part)) return joinedFields(isFields(before) ? before : {}, part);
  return part;
}

function joinedFields(before: Fields, part: Fields): Open {
  const whole: Open = { ...before };
  for (const [name, value] of Object.entries(part)) whole[name] = joined(name, before[name], value);
  return whole;
}

function joinedList(before: readonly unknown[], part: readonly unknown[]): unknown[] {
  const list = [...before];
  for (const item of part) {
    const index = isFields(item) ? item.index : undefined;
    const place = typeof index === 'number' ? list.findIndex((each) => isFields(each) && each.index === index) : -1;
    if (place >= 0) list[place] = joined('', list[place], item);
    else list.push(isFields(item) ? joinedFields({}, item) : item);
  }
  return list;
}

/** A call of a whole message has no index. */
function withoutIndices(message: Fields): Fields {
  const { tool_calls: calls } = message;
  if (!Array.isArray(calls)) return message;
  return {
    ...message,
    tool_calls: calls.map((call: unknown) => (isFields(call) ? without(call, 'index') : call)),
  };
}

export class WholeAnswer {
  #head: Fields = {};
  readonly #choices = new Map<number, Open>();

  add({ choices, ...head }: ChunkJson): void {
    const stated = Object.entries(head).filter(([, value]) => value !== null);
    this.#head = { ...this.#head, ...Object.fromEntries(stated) };
    for (const choice of choices ?? []) this.#addChoice(choice);
  }

  #addChoice({ delta, index = 0, ...choice }: ChunkChoice): void {
    const before = this.#choices.get(index) ?? { index };
    const message = delta === undefined || delta === null ? {} : { message: delta };
    this.#choices.set(index, joinedFields(before, { ...choice, ...message }));
  }

  /** @param more fields that win over those of the chunks */
  body(more: Fields): Fields {
    const choices = [...this.#choices.values()]
      .sort((a, b) => Number(a.index) - Number(b.index))
      .map(({ message, ...choice }) => (isFields(message) ? { ...choice, message: this.#message(message) } : choice));
    const { object } = this.#head;
    const whole = typeof object === 'string' ? { object: object.replace(/\.chunk$/, '') } : {};
    return { ...this.#head, ...whole, choices, ...more };
  }

  #message(message: Fields): Fields {
    return { role: 'assistant', content: null, ...withoutIndices(message) };
  }
}
