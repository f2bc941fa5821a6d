/** Regular expressions, choices, written grammars and calls: the texts that they hold, and the errors of wrong ones. */
import t from 'tap';
import { grammarErrorOf, libraryGrammar } from '../../../src/engine/grammar/library.js';
import type { Grammar } from '../../../src/protocol/index.js';
import { grammarVocabulary, GuidanceParser } from '../../../src/engine/grammar/guidance.js';

// Asks the grammar library which texts a grammar holds, over a vocabulary of single bytes.

const END = 256;
const bytes = [...Array.from({ length: END }, (_, byte) => Uint8Array.of(byte)), Buffer.from('<end>')];
const special = new Set([END]);
const vocabulary = grammarVocabulary({ bytes, special, byteLevel: true, stripsLeadingSpace: false }, END);
const parser = await GuidanceParser.create({ type: 'json_schema', schema: {} }, vocabulary);

/** @returns for each text, whether it is a whole text of the grammar @throws GrammarError, or a string of the library */
function accepts(grammar: Grammar, texts: readonly string[]): boolean[] {
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

const regex = (pattern: string): Grammar => ({ kind: 'regex', pattern });
const written = (grammar: string): Grammar => ({ kind: 'written', grammar });

void t.test('a regular expression matches the whole answer, whatever characters it holds', (t) => {
  const cases: [string, string[], string[]][] = [
    ['[a-z]+\\d{2}', ['ab12'], ['ab1', 'ab123', '']],
    ['a/b\\/c[/]', ['a/b/c/'], ['a/b']],
    ['^ab$', ['ab'], ['xab', 'abx']],
    ['^a|b$', ['a', 'b'], ['ab']],
    ['a\nb\\\nc', ['a\nb\nc'], ['a', 'abc']],
    ['é+😀?', ['éé', 'é😀'], ['e']],
    ['"#//', ['"#//'], ['"']],
  ];
  for (const [pattern, held, others] of cases) {
    t.strictSame(
      accepts(regex(pattern), [...held, ...others]),
      [...held.map(() => true), ...others.map(() => false)],
      JSON.stringify(pattern),
    );
  }
  t.end();
});

void t.test('a choice is one of the texts, also where one begins with another, and among thousands', (t) => {
  const choices = ['yes', 'yes, sure', 'a|b', '.*', '"\n\\', 'Köln 😀', 'x/y'];
  t.strictSame(
    accepts({ kind: 'choice', choices }, choices),
    choices.map(() => true),
  );
  t.strictSame(accepts({ kind: 'choice', choices }, ['yes,', 'a', 'b', 'xx', 'x']), Array(5).fill(false));
  const many = Array.from({ length: 3000 }, (_, index) => `choice ${index}`);
  t.strictSame(accepts({ kind: 'choice', choices: many }, ['choice 2999', 'choice 3000']), [true, false]);
  t.end();
});

void t.test("Lark's notation is the library's own", (t) => {
  const grammar = written('start: greeting " " NAME\ngreeting: "hi" | "hello"\nNAME: /[A-Z][a-z]+/ // a name: (\n');
  t.strictSame(accepts(grammar, ['hi Bob', 'hello Al', 'hi bob']), [true, true, false]);
  t.end();
});

void t.test('calls name functions, with arguments that are valid, on one line each', (t) => {
  const day = { type: 'object', properties: { n: { type: 'integer', maximum: 7 } }, required: ['n'] };
  const functions = Object.entries({
    f: { ...day, additionalProperties: false },
    'g_2-h': { $ref: '#/$defs/x', $defs: { x: { const: {} } } },
  });
  const of = (most: number, more: object = {}): Grammar => {
    const named = functions.map(([name, schema]) => ({ name, schema: JSON.stringify(schema) }));
    return { kind: 'calls', functions: named, most, isOptional: false, ...more };
  };
  const call = (name: string, args: string): string =>
    `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;
  const [f, g] = [call('f', '{"n": 5}'), call('g_2-h', '{}')];
  t.strictSame(accepts(of(1), [f, g, `${f}\n${g}`, 'No.', '']), [true, true, false, false, false]);
  t.strictSame(
    accepts(of(1), [call('f', '{"n": 8}'), call('f', '{}'), call('x', '{}'), f.slice(0, -1)]),
    Array(4).fill(false),
  );
  t.strictSame(accepts(of(2), [f, `${g}\n${f}`, `${f}\n${f}\n${f}`]), [true, true, false]);
  t.strictSame(accepts(of(1, { answer: '{"type":"boolean"}' }), [f, 'true', 'no']), [true, true, false]);
  t.end();
});

void t.test("the library's own errors are sentences without its rules", (t) => {
  const said = (grammar: Grammar): string | undefined => {
    try {
      accepts(grammar, ['']);
    } catch (error) {
      return grammarErrorOf(error, grammar)?.message;
    }
    return undefined;
  };
  const json = (schema: unknown): Grammar => ({ kind: 'json', schema: JSON.stringify(schema) });
  t.match(said(json({ type: 'banana' })), /banana/);
  t.match(said(json({ $ref: '#/nowhere' })), /nowhere/);
  t.match(said(json(false)), /Unsatisfiable/i);
  t.equal(said(json({ pattern: '[a-' })), 'regex parse error: unclosed character class, in "[a-"');
  t.match(said(json({ pattern: '(?=a)b' })), /^regex parse error: look-around.*, in "\(\?=a\)b"$/);
  t.match(said(json({ oneOf: [{ type: 'string' }, { maxLength: 3 }] })), /^oneOf .* overlap; use anyOf$/);
  t.match(said(regex('(')), /^invalid regex "\(".*unclosed group/);
  t.match(said(regex('(?=a)b')), /^invalid regex.*look-around/);
  t.equal(said(regex('[^\\s\\S]')), 'no text fits it');
  t.match(said(written('start: nothing')), /1\(8\): unknown name: "nothing"/, "the place is in the client's own text");
  t.match(said(written('begin: "a"')), /no start rule/);
  t.match(said(written('root ::= "a"')), /^1\(7\): Expected token/, "llama.cpp's notation");
  t.end();
});
