/** Messages of the grammar library, as a client reads them, and the tokens that the library reads. */
import t from 'tap';
import { grammarVocabulary } from '../../../src/engine/grammar/guidance.js';
import { grammarErrorOf } from '../../../src/engine/grammar/library.js';
import { GrammarError } from '../../../src/engine/grammar/errors.js';
import { AfterThoughts, FREE_TEXT } from '../../../src/engine/grammar/after-thoughts.js';
import { type Constraint, isPending } from '../../../src/engine/constraint.js';

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

// A constraint behind thoughts, with a constraint in the place of a grammar.

const [OPEN, CLOSE, BREAK, WORD, A] = [0, 1, 2, 3, 4] as const;

/** Allows `A` alone, and ends after it. */
class OnlyA implements Constraint {
  mask: Uint8Array | null = new Uint8Array([0, 0, 0, 0, 1]);
  readonly accepted: number[] = [];
  enforced = true;
  released = false;
  complete = false;
  failed = null;
  isClosed = false;
  accept(token: number): void {
    this.accepted.push(token);
    this.mask = null;
  }
  close(): void {
    this.isClosed = true;
  }
}

const thoughts = { open: OPEN, close: CLOSE, blanks: [BREAK], isOpen: false, most: null };

void t.test('thoughts are free, their tags and line breaks never reach the grammar', (t) => {
  const inner = new OnlyA();
  const constraint = new AfterThoughts(inner, thoughts);
  t.same([...(constraint.mask ?? [])], [1, 0, 0, 0, 1], 'an answer thinks or begins');
  t.equal(constraint.mask, constraint.mask, 'a mask is made once');
  constraint.accept(OPEN);
  for (const token of [WORD, OPEN, BREAK, A]) {
    t.match(constraint, { enforced: false, released: false, complete: false });
    t.notOk(isPending(constraint));
    constraint.accept(token);
  }
  inner.complete = true;
  t.notOk(constraint.complete, 'thoughts do not end an answer');
  inner.complete = false;
  constraint.accept(CLOSE);
  t.same([...(constraint.mask ?? [])], [0, 0, 1, 0, 1]);
  t.ok(constraint.enforced);
  constraint.accept(BREAK);
  t.same(inner.accepted, []);
  constraint.accept(A);
  t.same(inner.accepted, [A]);
  t.ok(isPending(constraint), 'the next mask is that of the grammar');
  inner.complete = true;
  t.ok(constraint.complete);
  constraint.close();
  t.ok(inner.isClosed);
  t.end();
});

void t.test('an answer may do without thoughts, and a prompt may open them', (t) => {
  const inner = new OnlyA();
  const without = new AfterThoughts(inner, thoughts);
  without.accept(A);
  t.same(inner.accepted, [A]);
  inner.mask = new Uint8Array([0, 0, 0, 1, 0]);
  t.same([...(without.mask ?? [])], [0, 0, 0, 1, 0], 'no thoughts in the middle');
  const opened = new AfterThoughts(new OnlyA(), { ...thoughts, isOpen: true });
  t.notOk(opened.enforced);
  opened.accept(CLOSE);
  t.ok(opened.enforced);
  t.end();
});

void t.test('the closing token ends thoughts at their bound, before any text as well', (t) => {
  for (const inner of [new OnlyA(), FREE_TEXT]) {
    const constraint = new AfterThoughts(inner, { ...thoughts, isOpen: true, most: 2 });
    constraint.accept(WORD);
    t.notOk(constraint.enforced);
    constraint.accept(WORD);
    t.ok(constraint.enforced);
    t.same([...(constraint.mask ?? [])], [0, 1], 'ids beyond the mask are excluded');
    constraint.accept(CLOSE);
    t.equal(constraint.enforced, inner.enforced);
    constraint.accept(A);
    t.equal(constraint.released, inner.released);
  }
  const none = new AfterThoughts(FREE_TEXT, { ...thoughts, most: 0 });
  t.notOk(isPending(none), 'an answer without thoughts is free');
  none.accept(OPEN);
  t.ok(none.enforced);
  t.end();
});
