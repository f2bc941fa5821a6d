/** The everyday requests, and the check of their answers. */
import { join } from 'node:path';
import t from 'tap';
import { isRight, loops, readRequests } from '../../bench/everyday/requests.js';
import { packageRoot } from '../../src/config.js';

void t.test('the set has 60 different requests, half of them held out, with as many checks in each half', (t) => {
  const all = readRequests(join(packageRoot, 'bench', 'everyday', 'requests.json'));
  t.equal(new Set(all.map(({ request }) => request)).size, 60);
  for (const name of ['tuning', 'held-out']) {
    const half = all.filter((each) => each.half === name);
    t.equal(half.length, 30);
    t.equal(half.filter(({ right }) => right !== undefined).length, 22);
  }
  for (const { right, least = 1 } of all) t.ok(right === undefined || right.length >= least);
  t.end();
});

void t.test('a file that breaks the schema is named with the field', (t) => {
  const dir = t.testdir({ 'requests.json': '[{"half": "tuning", "kind": "fact"}]' });
  t.throws(() => readRequests(join(dir, 'requests.json')), { message: /requests\.json: \/0 .*request/ });
  t.end();
});

void t.test('a right answer holds enough whole words in any case', (t) => {
  const request = { half: 'tuning', kind: 'list', request: 'Name two rivers.' } as const;
  t.equal(isRight(request, 'The Nile.'), null);
  const one = { ...request, right: ['nile', 'Rio Grande', 'H2O'] };
  t.equal(isRight(one, 'It is the NILE, of course.'), true);
  t.equal(isRight(one, 'juveniles'), false);
  t.equal(isRight(one, 'the Rio Grande'), true);
  t.equal(isRight({ ...one, least: 2 }, 'the Nile and the Nile'), false);
  t.equal(isRight({ ...one, least: 2 }, 'the Nile and H2O'), true);
  t.end();
});

void t.test('a text loops if four tokens occur in a row more than four times', (t) => {
  const times = (count: number): number[] => Array.from({ length: count }, () => [1, 2, 3, 4]).flat();
  t.equal(loops([]), false);
  t.equal(loops(times(4)), false);
  t.equal(loops(times(5)), true);
  t.end();
});
