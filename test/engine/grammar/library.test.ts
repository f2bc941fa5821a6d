/** Messages of the grammar library, as a client reads them, and the tokens that the library reads. */
import t from 'tap';
import { grammarVocabulary } from '../../../src/engine/grammar/guidance.js';
import { grammarErrorOf } from '../../../src/engine/grammar/library.js';
import { GrammarError } from '../../../src/engine/grammar/errors.js';

const json = { kind: 'json', schema: '{}' } as const;
const functions = ['a', 'b'].map((name) => ({ name, schema: '{}' }));
const calls = { kind: 'calls', functions, most: 1, isOptional: false } as const;

function faultOf(...[error, grammar]: Parameters<typeof grammarErrorOf>) {
  const fault = grammarErrorOf(error, grammar);
  return fault === null ? null : { message: fault.message, part: fault.part };
}

void t.test('an error is its first line, without the operation of the library', (t) => {
  const message = 'Unimplemented keys: ["not"]';
  for (const doing of ['', 'Failed to compute mask: ', 'Failed to consume token: ']) {
    t.same(faultOf(`${doing}${message}\n<state>\n</state>`, json), { message, part: null });
  }
  t.match(faultOf('Failed to compute mask: NoExtensionBias\n<state>', json)?.message, /^no JSON value fits it/);
  t.equal(faultOf('x'.repeat(300), json)?.message.length, 200, 'the message may contain a whole schema');
  t.end();
});

void t.test('an error of a call names the function, unless it concerns none', (t) => {
  const said = 'failed to compile JSON schema: Unimplemented keys: ["not"]';
  for (const [line, part] of [
    [1, null],
    [2, null],
    [3, null],
    [4, 0],
    [5, 1],
    [6, 2],
  ] as const) {
    const expected = { message: 'Unimplemented keys: ["not"]', part };
    t.same(faultOf(`Failed to compute mask: at ${line}(5): ${said}`, calls), expected, `line ${line}`);
    t.same(faultOf(`${line}(17): ${said}`, calls), expected);
  }
  t.same(faultOf('at 4(5): x', json), { message: 'at 4(5): x', part: null }, 'the text may be in a schema');
  t.same(faultOf(new GrammarError('it must be less', 1), calls), { message: 'it must be less', part: 1 });
  t.end();
});

void t.test('any other error is not an invalid grammar', (t) => {
  for (const error of [new RangeError('Maximum call stack size exceeded'), undefined, 5]) {
    t.equal(faultOf(error, calls), null);
  }
  t.end();
});

void t.test('every token has its own spelling, which encodes its bytes', (t) => {
  const texts = ['__proto__', 'constructor', 'a', 'é', '\n', '<end>'];
  const bytes = texts.map((text) => Buffer.from(text));
  const tokens = {
    bytes: [...bytes, Uint8Array.of(0xe2)],
    special: new Set([5]),
    byteLevel: true,
    stripsLeadingSpace: false,
  };
  const { vocab, added_tokens: added } = grammarVocabulary(tokens, 5);
  t.same(
    added.map(({ id }) => id),
    [5],
  );
  // Decodes the spelling as the library does.
  const spelt = Object.entries(vocab).map(([name, id]) => {
    const codes = Array.from(name, (character) => character.codePointAt(0) ?? 0);
    return [id, codes.map((code) => (code >= 0x100 ? code - 0x100 : code))] as const;
  });
  for (const [id, each] of tokens.bytes.entries()) if (id !== 5) t.same(new Map(spelt).get(id), [...each], `${id}`);
  t.equal(spelt.length, tokens.bytes.length);
  t.end();
});
