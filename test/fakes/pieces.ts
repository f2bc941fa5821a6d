/**
 * A small tokenizer in the style of SentencePiece (Llama 2). A word token holds the space before it, and a text starts
 * with a space.
 */
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';

const SPACE = '\u2581';
const SPECIAL = ['<unk>', '<s>', '</s>'];

/** Tokens by id. */
export const PIECES = [
  ...SPECIAL,
  ...[`${SPACE}the`, 'the', `${SPACE}Hi`, SPACE, 't', 'h', 'e', 'H', 'i', `${SPACE}t`, 'he', `${SPACE}H`],
] as const;

/** Adds `<s>` (1) and a space before a text, as Llama's tokenizer does. */
export const pieces = new TextTokenizer({
  added_tokens: SPECIAL.map((content, id) => ({ id, content, special: true, normalized: false })),
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: SPACE },
      { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    fuse_unk: true,
    byte_fallback: true,
    vocab: Object.fromEntries(PIECES.map((token, id) => [token, id])),
    merges: [`${SPACE} t`, 'h e', `${SPACE}t he`, 't he', `${SPACE} H`, `${SPACE}H i`],
  },
});
