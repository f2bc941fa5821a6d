import t from 'tap';
import { completionLogprobs } from '../../../src/gateway/api/generation/logprobs.js';
import type { TextTokenizer } from '../../../src/gateway/text/tokenizer.js';

/** A tokenizer with these bytes for each id. */
function tokenizerOf(...spellings: (string | number[])[]): TextTokenizer {
  const spelling = (id: number) => Buffer.from(spellings[id] as string);
  return { spelling, spelt: (id: number) => spelling(id).toString() } as unknown as TextTokenizer;
}

/** The log-probabilities as a client gets them. */
const written = (...args: Parameters<typeof completionLogprobs>) =>
  JSON.parse(JSON.stringify(completionLogprobs(...args))) as { readonly tokens: string[] };

void t.test('of two tokens with equal text, the chosen one wins', (t) => {
  const top = [[0, -0.25] as const, [2, -3] as const];
  const tokens = [{ id: 1, offset: 0, logprobs: { logprob: -1.5, top } }];
  t.match(written(tokenizerOf('a', 'a', 'b'), tokens), {
    tokens: ['a'],
    token_logprobs: [-1.5],
    top_logprobs: [{ a: -1.5, b: -3 }],
  });
  t.end();
});

void t.test('bytes that are not text have two digits each', (t) => {
  const tokens = [{ id: 0, offset: 0, logprobs: null }];
  t.same(written(tokenizerOf([0x0a, 0xf0]), tokens).tokens, ['bytes:\\x0a\\xf0']);
  t.end();
});
