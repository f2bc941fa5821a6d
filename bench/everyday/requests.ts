/** The everyday requests of bench:everyday and bench:goodput. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/cli/options/config.js';
import { isValid, type Static, Type } from '../../src/util/schema.js';
import { validationMessage } from '../../src/util/validation-message.js';

const oneOf = <T extends string>(...values: T[]) => Type.Unsafe<T>({ enum: values });
const Half = oneOf('tuning', 'held-out');
/** Defaults are chosen with one half of the requests and reported with the other half. */
export type Half = Static<typeof Half>;

const Word = Type.String({ minLength: 1 });

/** The form that a request asks for. */
const Form = oneOf('yes-no', 'one-word', 'number', 'commas', 'one-sentence', 'numbered', 'bullets');
export type Form = Static<typeof Form>;

const EverydayRequest = Type.Object({
  half: Half,
  kind: oneOf('fact', 'list', 'arithmetic', 'explanation', 'format', 'free'),
  request: Type.String({ minLength: 1 }),
  /** Points of a right answer. A point is a word, or words that stand for each other. Absent: no check. */
  right: Type.Optional(Type.Array(Type.Union([Word, Type.Array(Word, { minItems: 2 })]), { minItems: 1 })),
  /** Number of these points that a right answer holds. Default: 1. */
  least: Type.Optional(Type.Integer({ minimum: 1 })),
  form: Type.Optional(Form),
});
export type EverydayRequest = Static<typeof EverydayRequest>;

/** A request with a check of its answer. */
export type CheckedRequest = EverydayRequest & Required<Pick<EverydayRequest, 'right'>>;

export const REQUESTS = join(packageRoot, 'bench', 'everyday', 'requests.json');

/** @throws Error that names the file and the field */
export function readRequests(file: string): EverydayRequest[] {
  const schema = Type.Array(EverydayRequest, { minItems: 1 });
  const json: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (isValid(schema, json)) return json;
  throw new Error(`${file}: ${validationMessage(schema, json)}`);
}

export function isChecked(request: EverydayRequest): request is CheckedRequest {
  return request.right !== undefined;
}
