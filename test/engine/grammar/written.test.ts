/** Regular expressions, choices and written grammars: the texts that they hold, and the errors of wrong ones. */
import fc from 'fast-check';
import t from 'tap';
import { larkOfGbnf } from '../../../src/engine/grammar/gbnf.js';
import { libraryGrammar, toInvalidGrammar } from '../../../src/engine/grammar/library.js';
import type { Grammar } from '../../../src/protocol/index.js';
import { accepts } from './accepts.js';

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

const ARITHMETIC = `
# llama.cpp's form
root  ::= (expr "=" ws term "\\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num |
          "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \\t\\n]*
`;

void t.test('GBNF, by the examples of its guide', (t) => {
  t.strictSame(accepts(written(ARITHMETIC), ['1+x_2=3\n', '(a *(b+1))= c\n1=1\n', '1+=3\n', '']), [
    true,
    true,
    false,
    false,
  ]);
  const cases: [string, string[], string[]][] = [
    ['root ::= "abc" "!" | [a-z]+ "?"', ['abc!', 'abc?', 'abd?', 'a?'], ['abd!', 'abc']],
    ['root ::= [^\\n]+ "\\n"', ['a😀\n'], ['\n', 'a']],
    ['root ::= . [\\x41\\u00e9\\U0001F600-\\U0001F602]', ['\nA', 'xé', 'x😁'], ['xB', 'x😃']],
    ['root ::= [a\\]b-] [^]', [']x', '-x', 'ax'], ['cx']],
    [
      'root ::= "a"{2} "b"{1,} "c"{0,2} ("d" "e")? "f"{,3}'.replace('"f"{,3}', '"f"{0,3}'),
      ['aab', 'aabbccdefff'],
      ['ab', 'aabcccc'],
    ],
    ['root ::= dash-ed UPPER_1*\ndash-ed ::= "x"\nUPPER_1 ::= | "y" # nothing, or y', ['x', 'xyy'], ['y']],
    ['root ::= "\\"\\\\/#" # a comment with "text" ::=', ['"\\/#'], ['"']],
    ['root ::= ("a"*)+ "b"', ['b', 'aab'], ['a']],
  ];
  for (const [grammar, held, others] of cases) {
    t.strictSame(
      accepts(written(grammar), [...held, ...others]),
      [...held.map(() => true), ...others.map(() => false)],
      grammar,
    );
  }
  t.end();
});

interface Both {
  readonly gbnf: string;
  readonly js: string;
}

const { tree } = fc.letrec<{ tree: Both }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(
      { gbnf: '"a"', js: 'a' },
      { gbnf: '"ab"', js: '(?:ab)' },
      { gbnf: '[ab]', js: '[ab]' },
      { gbnf: '[^a]', js: '[^a]' },
      { gbnf: '""', js: '' },
    ),
    fc.tuple(tie('tree'), tie('tree')).map(([a, b]) => ({ gbnf: `${a.gbnf} ${b.gbnf}`, js: a.js + b.js })),
    fc
      .tuple(tie('tree'), tie('tree'))
      .map(([a, b]) => ({ gbnf: `(${a.gbnf} | ${b.gbnf})`, js: `(?:${a.js}|${b.js})` })),
    fc
      .tuple(tie('tree'), fc.constantFrom('*', '+', '?', '{2}', '{1,2}'))
      .map(([a, sign]) => ({ gbnf: `(${a.gbnf})${sign}`, js: `(?:${a.js})${sign}` })),
  ),
}));

void t.test('a regular GBNF holds the same texts as the regular expression', (t) => {
  const texts = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 }), {
    minLength: 8,
    maxLength: 8,
  });
  fc.assert(
    fc.property(tree, texts, ({ gbnf, js }, each) => {
      const pattern = new RegExp(`^(?:${js})$`);
      t.strictSame(
        accepts(written(`root ::= ${gbnf}`), each),
        each.map((text) => pattern.test(text)),
        gbnf,
      );
    }),
    { numRuns: 60 },
  );
  t.end();
});

void t.test('a wrong grammar is an error with its line', async (t) => {
  const cases: [string, RegExp][] = [
    ['root ::= "a\n', /^line 1 lacks a """$/],
    ['root ::= "a"\n\nb = "c"', /^line 3 must have "::=" after "b"/],
    ['root ::= a', /^the rule "a" is not defined/],
    ['a ::= "x"', /^the rule "root" is not defined/],
    ['root ::= ("a"\n "b"', /^line 2 lacks a "\)"/],
    ['root ::= "a" )', /^line 1 has an unexpected "\)"/],
    ['root ::= [z-a]', /order/],
    ['root ::= []', /empty/],
    ['root ::= [a', /lacks a "\]"/],
    ['root ::= "\\xZZ"', /2 hexadecimal digits/],
    ['root ::= "\\ud800"', /4 hexadecimal digits of a character/],
    ['root ::= "a"{3,2}', /counts in order/],
    ['root ::= "a"{9999}', /counts in order up to 4096/],
    ['root ::= <think>', /tokens are not supported/],
    ['root ::= !<[5]>', /tokens are not supported/],
    [`root ::= ${'('.repeat(100)}"a"${')'.repeat(100)}`, /at most 64 parentheses/],
    ['root ::= "a"\nroot ::= "b"', /^line 2 defines the rule "root" again/],
    [
      Array.from({ length: 450 }, (_, i) => `${i === 0 ? 'root' : `r${i}`} ::= "a" r${i + 1}?`).join('\n') +
        '\nr450 ::= "b"',
      /at most 400 together/,
    ],
    ['start: %json {"type": "banana"}', /%json is not supported/],
    ['%llguidance {"no_forcing": true}\nstart: "a"', /%llguidance is not supported/],
  ];
  for (const [grammar, message] of cases)
    await t.test(grammar.slice(0, 60), async (t) => {
      t.throws(() => libraryGrammar(written(grammar)), { name: 'SchemaError', message });
    });
  // A directive within a text or a comment is none.
  t.strictSame(accepts(written('start: "%json" // %json\n'), ['%json']), [true]);
});

void t.test("the library's own errors are sentences without its rules", (t) => {
  const said = (grammar: Grammar): string | undefined => {
    try {
      accepts(grammar, ['']);
    } catch (error) {
      return toInvalidGrammar(error, grammar)?.message;
    }
    return undefined;
  };
  t.match(said(regex('(')), /^invalid regex "\(".*unclosed group/);
  t.match(said(regex('(?=a)b')), /^invalid regex.*look-around/);
  t.equal(said(regex('[^\\s\\S]')), 'no text fits it');
  t.match(said(written('start: nothing')), /1\(8\): unknown name: "nothing"/, "the place is in the client's own text");
  t.match(said(written('begin: "a"')), /no start rule/);
  t.end();
});

void t.test('GBNF of any text is translated or rejected, and soon', (t) => {
  const piece = fc.constantFrom(
    'root',
    ' ::= ',
    '"',
    '\\',
    '[',
    ']',
    '(',
    ')',
    '|',
    '*',
    '{2,3}',
    '\n',
    'a',
    '#',
    '-',
    '\\x4',
    '😀',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      try {
        larkOfGbnf(`root ::= ${pieces.join('')}`);
      } catch (error) {
        t.equal((error as Error).name, 'SchemaError');
      }
    }),
    { numRuns: 500 },
  );
  const before = performance.now();
  t.throws(() => larkOfGbnf(`root ::= ${'"a" '.repeat(8000)}!`));
  t.ok(performance.now() - before < 2000);
  t.end();
});
