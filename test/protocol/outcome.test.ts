/** The one rule for what became of a request. */
import t from 'tap';
import { type Ending, isKept, OUTCOMES, outcomeOf, worstOf } from '../../src/protocol/outcome.js';

const none = { totalMs: null, ttftMs: null, tpotMs: null };

void t.test('an outcome follows from end, output and time', async (t) => {
  const cases: [Ending, number, string][] = [
    [{ end: 'whole' }, 100, 'whole'],
    [{ end: 'whole' }, 101, 'late'],
    [{ end: 'landed' }, 100, 'landed'],
    [{ end: 'landed' }, 101, 'late'],
    [{ end: 'cut' }, 101, 'cut'],
    [{ end: 'cut' }, 201, 'late'],
    [{ end: 'whole', isEmpty: true }, 50, 'empty'],
    [{ end: 'cut', isEmpty: true }, 999, 'empty'],
    [{ end: 'refused', isEmpty: true }, 0, 'refused'],
  ];
  for (const [ending, totalMs, outcome] of cases)
    t.equal(outcomeOf(ending, { ...none, totalMs }, { ...none, totalMs: 100 }), outcome, JSON.stringify(ending));
  t.equal(outcomeOf({ end: 'whole' }, { ...none, totalMs: 9 }, null), 'whole', 'no budget');
});

void t.test('only whole and landed answers keep a budget, and the worst choice counts', async (t) => {
  t.same(OUTCOMES.filter(isKept), ['whole', 'landed']);
  t.equal(worstOf(['landed', 'whole']), 'landed');
  t.equal(worstOf(['cut', 'late', 'whole']), 'cut');
  t.equal(worstOf([]), null);
});
