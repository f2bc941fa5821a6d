/** The everyday requests of bench:everyday, and the check of their answers. */
import { readFileSync } from 'node:fs';
import Type, { type Static } from 'typebox';
import { Value } from 'typebox/value';
import { validationMessage } from '../../src/util/validation-message.js';

const Half = Type.Union([Type.Literal('tuning'), Type.Literal('held-out')]);
/** Defaults are chosen with one half of the requests and reported with the other half. */
export type Half = Static<typeof Half>;

const EverydayRequest = Type.Object({
  half: Half,
  kind: Type.String(),
  request: Type.String({ minLength: 1 }),
  /** Words of a right answer; absent for a request without one. */
  right: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })),
  /** Number of these words that a right answer holds. Default: 1. */
  least: Type.Optional(Type.Integer({ minimum: 1 })),
});
export type EverydayRequest = Static<typeof EverydayRequest>;

/** @throws Error that names the file and the field */
export function readRequests(file: string): EverydayRequest[] {
  const schema = Type.Array(EverydayRequest, { minItems: 1 });
  const json: unknown = JSON.parse(readFileSync(file, 'utf8'));
  const fault = validationMessage(schema, json);
  if (fault !== null) throw new Error(`${file}: ${fault}`);
  return Value.Decode(schema, json);
}

/** Whether an answer holds enough of the right words, as whole words in any case; null without right words. */
export function isRight({ right, least = 1 }: EverydayRequest, answer: string): boolean | null {
  if (right === undefined) return null;
  return right.filter((word) => holds(answer, word)).length >= least;
}

function holds(text: string, word: string): boolean {
  const escaped = word.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(String.raw`(?<![\p{L}\p{N}])${escaped}(?![\p{L}\p{N}])`, 'iu').test(text);
}

/** Whether a text loops: some sequence of 4 tokens occurs more than 4 times. */
export function loops(tokens: readonly number[]): boolean {
  const counts = new Map<string, number>();
  for (let i = 0; i + 4 <= tokens.length; i++) {
    const key = tokens.slice(i, i + 4).join(' ');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values()) > 4;
}
