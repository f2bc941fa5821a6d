/** The tokenizers library, from text to ids. Knows: its types. Must not know: bytes of tokens, what is encoded. */
import { Tokenizer } from '@huggingface/tokenizers';

/** What is used of the library, whose own types don't resolve under Node's module rules. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

/** @param addSpecial whether the tokenizer's own begin and end tokens are added, where it has any */
export type Encode = (text: string, addSpecial: boolean) => number[];

/** @param json the parsed tokenizer.json */
export function hubTokenizer(json: object): Encode {
  const library = new Library(json, {});
  return (text, addSpecial) => library.encode(text, { add_special_tokens: addSpecial }).ids;
}
