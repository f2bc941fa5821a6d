import t from 'tap';
import { levelsOf, tokenMs } from '../../src/router/levels.js';

/** Steps in which every row costs what its exit says, beside what the deepest one costs by itself. */
const stepOf =
  (fixed: readonly number[], row: readonly number[]) =>
  (counts: Int32Array): number => {
    const deepest = counts.findLastIndex((count) => count > 0);
    return (fixed[deepest] ?? 0) + counts.reduce((sum, count, exit) => sum + count * (row[exit] ?? 0), 0);
  };

void t.test('a step is split into what a row adds and what it costs whoever is in it', async (t) => {
  const levels = levelsOf(stepOf([4, 10], [1, 2]), 2, 8);
  t.same([...levels.row], [1, 2]);
  t.same([...levels.fixed], [4, 10]);
  t.equal(tokenMs(levels, 1, 1), 12, 'alone it pays for all');
  t.equal(tokenMs(levels, 1), 2 + 10 / 4, 'else for its share');
});

void t.test('a deeper exit never costs less than a shallower one, whatever was measured', async (t) => {
  const levels = levelsOf(stepOf([4, 3, 9], [2, 1, 0.5]), 3, 4);
  t.same([...levels.row], [2, 2, 2]);
  t.same([...levels.fixed], [4, 4, 9]);
});

void t.test('rows that make a step cheaper, as noise has it, add nothing', async (t) => {
  const levels = levelsOf((counts) => ((counts[0] ?? 0) > 1 ? 9 : 10), 1, 8);
  t.same([...levels.row], [0]);
  t.same([...levels.fixed], [10]);
});

void t.test('the slope is taken to at least two rows', async (t) => {
  const bent = (counts: Int32Array): number => ((counts[0] ?? 0) === 1 ? 10 : 10 + 3 * ((counts[0] ?? 0) - 1));
  for (const rows of [0, 1, 2]) t.same([...levelsOf(bent, 1, rows).row], [3], `${rows} rows`);
});
