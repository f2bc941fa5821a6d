/** Encodes text to ids with the tokenizers library. */
import { Tokenizer } from '@huggingface/tokenizers';

/** The part of the library that is used; its own types do not resolve under Node's module rules. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

/** @param addSpecial whether to add the begin and end tokens of the tokenizer */
export type Encode = (text: string, addSpecial: boolean) => number[];

/** @param json the parsed tokenizer.json */
export function hubTokenizer(json: object): Encode {
  const library = new Library(json, {});
  return (text, addSpecial) => library.encode(text, { add_special_tokens: addSpecial }).ids;
}
