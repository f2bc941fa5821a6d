/** Asks the grammar library which texts a grammar holds, over a vocabulary of single bytes. */
import { grammarVocabulary, GuidanceParser } from '../../../src/engine/grammar/guidance.js';
import { libraryGrammar } from '../../../src/engine/grammar/library.js';
import type { Grammar } from '../../../src/protocol/index.js';

const END = 256;
const bytes = [...Array.from({ length: END }, (_, byte) => Uint8Array.of(byte)), Buffer.from('<end>')];
const special = new Set([END]);
const vocabulary = grammarVocabulary({ bytes, special, byteLevel: true, stripsLeadingSpace: false }, END);
const parser = await GuidanceParser.create({ type: 'json_schema', schema: {} }, vocabulary);

/** @returns for each text, whether it is a whole text of the grammar @throws GrammarError, or a string of the library */
export function accepts(grammar: Grammar, texts: readonly string[]): boolean[] {
  const library = libraryGrammar(grammar);
  return texts.map((text) => {
    parser.reset(library);
    for (const byte of Buffer.from(text)) {
      if (parser.isComplete() || parser.getTokenMask()[byte] !== 1) return false;
      parser.advance(byte);
    }
    return parser.isComplete() || parser.getTokenMask()[END] === 1;
  });
}
