import fc from 'fast-check';
import t from 'tap';
import { jsonPieces, LazyList } from '../../src/gateway/api/generation/json-pieces.js';

void t.test('pieces together are the JSON of a value', (t) => {
  fc.assert(
    fc.property(fc.object({ withDate: true, maxDepth: 8 }), (value) => {
      t.equal([...jsonPieces(value)].join(''), JSON.stringify(value));
    }),
    { numRuns: 200 },
  );
  const odd = { a: undefined, b: [undefined, () => 1], c: { d: [], e: {} }, 'quoted "key"': '\ud800' };
  t.equal([...jsonPieces(odd)].join(''), JSON.stringify(odd));
  t.end();
});

void t.test('a lazy list is made while it is written, in pieces of a bounded length', (t) => {
  let made = 0;
  const list = LazyList.of([...Array(20_000).keys()], (n) => {
    made++;
    return { n, text: 'x'.repeat(20) };
  });
  const pieces = jsonPieces({ choices: [{ logprobs: { content: list } }], end: true });
  const first = pieces.next().value ?? '';
  t.ok(made < 3000, `${made} entries are made for the first piece`);
  const all = [first, ...pieces];
  t.ok(all.length > 10);
  t.ok(Math.max(...all.map(({ length }) => length)) < 70_000);
  made = 0;
  t.equal(all.join(''), JSON.stringify({ choices: [{ logprobs: { content: list } }], end: true }));
  t.equal(made, 20_000, 'JSON.stringify makes it as well');
  t.end();
});
