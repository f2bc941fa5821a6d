import fc from 'fast-check';
import t from 'tap';
import { ChatTemplate, ChatTemplateError } from '../../src/gateway/text/chat-template.js';
import { Detokenizer, TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { StopStrings } from '../../src/gateway/text/stop-strings.js';
import { ggufTokenizer } from '../../src/convert/formats/gguf/tokenizer.js';
import { boundaryOf, textPieces } from '../../src/gateway/text/text-pieces.js';
import { tokenBytes, type TokenizerJson } from '../../src/gateway/text/token-bytes.js';
import { ggufMetadata, tinyVocabulary } from '../convert/tiny.js';
import { tokenizer } from '../fakes/server.js';

const samples = [
  'The capital of France is Paris.',
  'naïve café — “quotes” … 日本語です。次の文。 한국어 🦊🏳️‍🌈',
  "it's 12345 o'clock,\n\n\tdon't   panic!  ",
  'def f(x):\n    return x ** 2  # comment\n',
];

/** Fails if a piece goes to the thread: all pieces of these texts are short. */
const here = (): Promise<never> => Promise.reject(new Error('a long piece'));

void t.test('decode reverses encode', (t) => {
  for (const text of samples) t.equal(tokenizer.decode(tokenizer.encode(text, true)), text);
  t.end();
});

/** A byte tokenizer with the token `.b`, and with the named pre-tokenizer of llama.cpp. */
function stops(pre: string): TokenizerJson {
  const { tokens, merges } = tinyVocabulary();
  const metadata = {
    ...ggufMetadata(),
    'tokenizer.ggml.pre': pre,
    'tokenizer.ggml.tokens': [...tokens, '.b'],
    'tokenizer.ggml.merges': [...merges, '. b'],
    'tokenizer.ggml.token_type': [3, 3, ...tokens.slice(1).map(() => 1)],
    'tokenizer.ggml.add_bos_token': true,
  };
  return JSON.parse(ggufTokenizer(new Map(Object.entries(metadata)), 'tiny.gguf').json) as TokenizerJson;
}

void t.test('texts are cut only at boundaries of the pre-tokenizer', async (t) => {
  const text = `${'a.b'.repeat(1000)} ${'a.b c,d  e '.repeat(1000)}`;
  const splits = (json: TokenizerJson): string[] => {
    const boundary = boundaryOf(json);
    return boundary === null ? [text] : [...textPieces(text, boundary)];
  };
  const exact = async (json: TokenizerJson, name: string): Promise<void> => {
    const own = new TextTokenizer(json);
    const elsewhere = (piece: string, addSpecial: boolean) => Promise.resolve(own.encode(piece, addSpecial));
    t.equal(splits(json).join(''), text, name);
    t.same(await own.encodeLong(text, true, Infinity, elsewhere), own.encode(text, true), name);
  };
  for (const pre of ['gpt-2', 'smollm', 'llama-bpe']) await exact(stops(pre), pre);
  const gpt2 = stops('gpt-2');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const add = (token: { content: string; lstrip?: boolean; rstrip?: boolean }): TokenizerJson => {
    const flags = { special: true, normalized: false, single_word: false, lstrip: false, rstrip: false };
    return { ...gpt2, added_tokens: [...(gpt2.added_tokens ?? []), { id: 265, ...flags, ...token }] };
  };
  const spaced = { use_regex: true, add_prefix_space: true };
  const others: [name: string, json: TokenizerJson, isCut: boolean][] = [
    ['one word', { ...gpt2, pre_tokenizer: byteLevel }, false],
    ['a space before each text', { ...gpt2, pre_tokenizer: { ...byteLevel, ...spaced } }, true],
    ['a token that swallows spaces', add({ content: 'c', rstrip: true }), false],
    ['a token that swallows spaces before it', add({ content: 'c', lstrip: true }), false],
    ['a token that holds a space', add({ content: 'c a' }), false],
    ['a token that holds a stop', add({ content: 'a.b' }), true],
  ];
  for (const [name, json, isCut] of others) {
    t.equal(splits(json).length > 1, isCut, name);
    await exact(json, name);
  }
  for (const pre of ['gpt-2', 'smollm']) t.match(splits(stops(pre))[0], /a\.$/, `a stop ends a word in ${pre}`);
  t.match(splits(stops('llama-bpe'))[1], /^ a\.b/, "a space alone begins one in Llama 3's");
});

void t.test('a text is encoded up to its most tokens, with the tokens around it', async (t) => {
  const text = samples.join(' ').repeat(60);
  const whole = tokenizer.encode(text, false);
  t.same(await tokenizer.encodeLong(text, false, whole.length, here), whole);
  t.equal(await tokenizer.encodeLong(text, false, whole.length - 1, here), null);
  const before = process.cpuUsage();
  t.equal(await tokenizer.encodeLong('word '.repeat(1_000_000), false, 1000, here), null);
  t.ok(process.cpuUsage(before).user < 2_000_000, 'it stops there');
  const special_tokens = Object.fromEntries(['<s>', '</s>'].map((id, i) => [id, { id, ids: [i], tokens: [id] }]));
  const [begin, end] = ['<s>', '</s>'].map((id) => ({ SpecialToken: { id, type_id: 0 } }));
  const single = [begin, { Sequence: { id: 'A', type_id: 0 } }, end];
  const post_processor = { type: 'TemplateProcessing', single, pair: [], special_tokens };
  const both = new TextTokenizer({ ...stops('gpt-2'), post_processor });
  const elsewhere = (piece: string, addSpecial: boolean) => Promise.resolve(both.encode(piece, addSpecial));
  const ids = await both.encodeLong('a b', true, Infinity, elsewhere);
  t.same([ids?.[0], ids?.at(-1)], [0, 1]);
  t.same(ids?.slice(1, -1), both.encode('a b', false));
});

void t.test('mustExceed counts bytes, or UTF-16 units if there is a normalizer', (t) => {
  const json = stops('gpt-2');
  const plain = new TextTokenizer(json);
  const longest = Math.max(...Array.from({ length: plain.vocabulary }, (_, id) => plain.spelling(id).length));
  t.notOk(plain.mustExceed('x'.repeat(10 * longest), 10));
  t.ok(plain.mustExceed('x'.repeat(10 * longest + 1), 10));
  const three = '\u8a9e'.repeat(10 * longest);
  t.ok(plain.mustExceed(three, 10), 'three bytes each');
  t.notOk(new TextTokenizer({ ...json, normalizer: { type: 'NFC' } }).mustExceed(three, 10));
  for (const text of samples) t.notOk(tokenizer.mustExceed(text, tokenizer.encode(text, false).length));
  t.end();
});

void t.test('the detokenizer never splits a character', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
      const bytes = Buffer.from(text);
      const one = new Detokenizer((id) => Uint8Array.of(id));
      const parts = [...bytes].map((byte) => one.push(byte));
      // A text may itself contain U+FFFD.
      const isWhole = text.includes('\ufffd') || parts.every((part) => !part.includes('\ufffd'));
      return isWhole && parts.join('') + one.end() === text;
    }),
  );
  for (const [bytes, shown, what] of [
    [[0xef, 0xbf, 0xbd], '\ufffd', 'U+FFFD is a character as well'],
    [[0xef, 0xbb, 0xbf], '\ufeff', 'a byte order mark is kept'],
    [[0xe2], '', 'an incomplete character becomes U+FFFD at the end'],
  ] as const) {
    const one = new Detokenizer((id) => Uint8Array.of(id));
    t.equal(bytes.map((byte) => one.push(byte)).join(''), shown, what);
    t.equal(one.end(), shown === '' ? '\ufffd' : '', what);
  }
  t.end();
});

void t.test('special tokens have a spelling but no text', (t) => {
  const [id = -1] = tokenizer.encode('<|im_end|>', false);
  t.equal(tokenizer.decode([id]), '');
  t.equal(tokenizer.decode([id], { special: true }), '<|im_end|>');
  const added_tokens = ['<tool_call>', '<end>'].map((content, id) => ({ id, content, special: content === '<end>' }));
  const { bytes, special } = tokenBytes({ model: { vocab: {} }, decoder: { type: 'ByteLevel' }, added_tokens });
  t.same([...special], [1], 'other added tokens are text');
  t.equal(Buffer.from(bytes[0] ?? []).toString(), '<tool_call>');
  for (const id of [2 ** 31, -1, 0.5])
    t.throws(
      () =>
        tokenBytes({
          model: { vocab: {} },
          decoder: { type: 'ByteLevel' },
          added_tokens: [{ id, content: 'x', special: true }],
        }),
      { message: `the id of a token must be an integer from 0 to 16777215, got ${id}` },
    );
  t.end();
});

void t.test('tokens with an unusual spelling decode to their text', (t) => {
  const bytesOf = (token: string, type: string) => {
    const { bytes } = tokenBytes({ model: { vocab: { [token]: 0 } }, decoder: { type } });
    return Buffer.from(bytes[0] ?? []).toString('latin1');
  };
  t.equal(bytesOf('\u0120a', 'ByteLevel'), ' a');
  t.equal(bytesOf(' a', 'ByteLevel'), ' a', 'a token that does not spell bytes stands for its own text');
  t.equal(bytesOf('\u2581\u2581a\u2581', 'ByteFallback'), '  a ');
  t.equal(bytesOf('<0x0a>', 'ByteFallback'), '\n');
  t.equal(bytesOf('<0x0A>b', 'ByteFallback'), '<0x0A>b');
  const strips = (prepend_scheme?: string) =>
    tokenBytes({
      model: { vocab: {} },
      decoder: { type: 'Metaspace', ...(prepend_scheme === undefined ? {} : { prepend_scheme }) },
    }).stripsLeadingSpace;
  t.same([strips('never'), strips('first'), strips()], [false, true, true]);
  t.end();
});

void t.test('stop strings are found across pushes and never shown, and no text is held longer than needed', (t) => {
  const stops = new StopStrings(['STOP', '\n\n']);
  t.same(stops.push('ab S'), { text: 'ab ', stop: null });
  t.same(stops.push('T'), { text: '', stop: null });
  t.same(stops.push('ART\n'), { text: 'START', stop: null });
  t.same(stops.push('x\n'), { text: '\nx', stop: null });
  t.same(stops.push('\nrest'), { text: '', stop: '\n\n' });
  t.equal(stops.end(), '', 'no text is held back');
  const first = new StopStrings(['ab', 'a']).push('xab');
  t.same(first, { text: 'x', stop: 'a' }, 'of two matches at the same place, the one that ends first');
  t.end();
});

void t.test('stop strings match a naive search for overlapping strings', (t) => {
  const word = (least: number, most: number) =>
    fc.string({ unit: fc.constantFrom('a', 'b'), minLength: least, maxLength: most });
  fc.assert(
    fc.property(fc.array(word(1, 6), { minLength: 1, maxLength: 4 }), fc.array(word(0, 5)), (stops, pieces) => {
      const scan = new StopStrings(stops);
      let [text, shown] = ['', ''];
      for (const piece of pieces) {
        text += piece;
        const result = scan.push(piece);
        shown += result.text;
        const found = stops.map((stop) => text.indexOf(stop)).filter((index) => index >= 0);
        if (found.length > 0) return result.stop !== null && shown === text.slice(0, Math.min(...found));
        const held = text.slice(shown.length);
        const isHeld = held === '' || stops.some((stop) => stop.startsWith(held));
        if (result.stop !== null || !text.startsWith(shown) || !isHeld) return false;
      }
      return shown + scan.end() === text;
    }),
  );
  t.end();
});

void t.test('a chat template renders, and its exception becomes a ChatTemplateError', (t) => {
  const template = new ChatTemplate(
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ bos_token }}" +
      '{% for message in messages %}[{{ message.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}',
    { bos_token: '<s>' },
  );
  t.equal(template.render([{ role: 'user', content: 'Hi' }], true), '<s>[Hi]>');
  const spoken = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: ' Hi ' },
  ];
  t.equal(template.renderOpen(spoken), '<s>[Hi][ Hi ', 'the last message has no end');
  const silent = new ChatTemplate('{{ messages[0].content }}', {});
  t.throws(() => silent.renderOpen(spoken), { name: 'ChatTemplateError', message: /leaves out the content/ });
  t.throws(() => template.render([{ role: 'system', content: 'x' }], true), ChatTemplateError);
  const filter = new ChatTemplate('{% filter trim %} {{ messages[0].content }} {% endfilter %}!', {});
  t.equal(filter.render([{ role: 'user', content: 'Hi' }], true), 'Hi!', 'as Firefunction has');
  t.end();
});
