/** Encodes text to ids with the tokenizers library. */
import { Tokenizer } from '@huggingface/tokenizers';
import { within } from '../../util/time-limit.js';

/** The part of the library that is used; its own types do not resolve under Node's module rules. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

/** @param addSpecial whether to add the begin and end tokens of the tokenizer */
export type Encode = (text: string, addSpecial: boolean) => number[];

/**
 * The expressions of a model's tokenizer may need an exponential time.
 * @param json the parsed tokenizer.json
 * @param mostMs time limit of a call
 * @returns a function that throws TimeLimitError
 */
export function hubTokenizer(json: object, mostMs: number): Encode {
  const library = new Library(json, {});
  return (text, addSpecial) => within(mostMs, () => library.encode(text, { add_special_tokens: addSpecial }).ids);
}
