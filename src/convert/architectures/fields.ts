/** Reads the fields of config.json, or of a GGUF file's metadata. An error names file, field, rule and value. */
import { ConvertError } from '../conversion-error.js';

const isNumber = (value: unknown): value is number => typeof value === 'number';
const isNumbers = (value: unknown): value is number[] => Array.isArray(value) && value.every(isNumber);
const isFlag = (value: unknown): value is boolean => typeof value === 'boolean';
const isList = (value: unknown): value is unknown[] => Array.isArray(value);
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && !isList(value);

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
    return this.#typed(this.get(key) ?? fallback, key, isNumber, 'a number');
  }

  /** Like `number`, but null for a missing field. */
  optional(key: string): number | null {
    return this.get(key) === undefined ? null : this.number(key);
  }

  flag(key: string, fallback = false): boolean {
    return this.#typed(this.get(key) ?? fallback, key, isFlag, 'true or false');
  }

  /** The elements of a list; null for a missing field. */
  list(key: string): unknown[] | null {
    return this.get(key) === undefined ? null : this.#typed(this.get(key), key, isList, 'a list');
  }

  numbers(key: string): number[] | null {
    return this.list(key) && this.#typed(this.get(key), key, isNumbers, 'a list of numbers');
  }

  /** The fields of an object within a field. @param rule what the field must be */
  within(key: string, rule = 'an object'): Fields {
    const object = this.#typed(this.get(key) ?? {}, key, isObject, rule);
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

  #typed<T>(value: unknown, key: string, isOfType: (value: unknown) => value is T, rule: string): T {
    if (isOfType(value)) return value;
    throw this.fault(key, rule);
  }
}

/** Metadata below the architecture's name, and the tensors of the file. */
export interface GgufFields {
  /** Path, for errors. */
  readonly file: string;
  readonly fields: Fields;
  readonly vocab: number;
  has(tensor: string): boolean;
  /** All values of a small tensor; null if the file lacks it. */
  values(tensor: string): Float32Array | null;
}
