/** The pre-tokenizers of GGUF files against the pieces of Python's `tokenizers` (test/golden/architectures). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import t from 'tap';
import { PRE_TOKENIZERS } from '../../src/convert/formats/gguf/tokenizer.js';
import { tokenizerJson } from './tiny.js';

/** The part of the library that is used; its own types do not resolve under Node's module rules. */
interface Library {
  readonly pre_tokenizer: { pre_tokenize(text: string): string[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

const file = fileURLToPath(new URL('../../../test/golden/pre-tokenizers.json', import.meta.url));
const { texts, ...golden } = JSON.parse(readFileSync(file, 'utf8')) as { texts: string[] } & Record<string, string[][]>;

void t.test('every pre-tokenizer has golden pieces', async (t) => {
  t.strictSame(Object.keys(golden).sort(), [...PRE_TOKENIZERS.keys()].sort());
});

for (const [name, { step }] of PRE_TOKENIZERS)
  void t.test(name, async (t) => {
    const { pre_tokenizer } = new Library(tokenizerJson({ pre_tokenizer: step }), {});
    for (const [index, text] of texts.entries())
      t.strictSame(pre_tokenizer.pre_tokenize(text), golden[name]?.[index], text);
  });
