/** Reads the fields of config.json, or of a GGUF file's metadata. An error names file, field, rule and value. */
import { ConvertError } from '../conversion-error.js';

export class Fields {
  readonly #get: (key: string) => unknown;
  readonly #label: (key: string) => string;

  /** @param label file and field, for errors */
  constructor(get: (key: string) => unknown, label: (key: string) => string) {
    this.#get = get;
    this.#label = label;
  }

  /** The value; undefined if it is missing or null. */
  get(key: string): unknown {
    return this.#get(key) ?? undefined;
  }

  /** The same fields, and these values for missing ones; null is not missing. */
  over(defaults: Readonly<Record<string, unknown>>): Fields {
    return new Fields((key) => (this.#get(key) === undefined ? defaults[key] : this.#get(key)), this.#label);
  }

  /** @param fallback the value of a missing field; without it the field is required */
  number(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'number') throw this.fault(key, 'a number');
    return value;
  }

  /** Like `number`, but null for a missing field. */
  optional(key: string): number | null {
    return this.get(key) === undefined ? null : this.number(key);
  }

  flag(key: string, fallback = false): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.fault(key, 'true or false');
    return value;
  }

  /** The elements of a list; null for a missing field. */
  list(key: string): unknown[] | null {
    const value = this.get(key);
    if (value !== undefined && !Array.isArray(value)) throw this.fault(key, 'a list');
    return value === undefined ? null : (value as unknown[]);
  }

  numbers(key: string): number[] | null {
    const list = this.list(key);
    if (list === null) return null;
    if (!list.every((value) => typeof value === 'number')) throw this.fault(key, 'a list of numbers');
    return list;
  }

  /** The fields of an object within a field. */
  within(key: string): Fields {
    const value = this.get(key) ?? {};
    if (typeof value !== 'object' || Array.isArray(value)) throw this.fault(key, 'an object');
    const object = value as Record<string, unknown>;
    return new Fields(
      (name) => object[name],
      (name) => this.#label(`${key}.${name}`),
    );
  }

  fault(key: string, rule: string): ConvertError {
    const value = this.#get(key);
    const got = value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 80);
    return new ConvertError(`${this.#label(key)} must be ${rule}, got ${got}`);
  }
}
