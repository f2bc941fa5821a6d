/** Results of the head for rows in the middle of a batch. */
import t from 'tap';
import { makeExecutor, slotParts } from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';

const ROWS = 3;

void t.test('each row has its own logits, top K, temperature and target, from any first row', async (t) => {
  const { head, model } = slotParts(await makeExecutor(t, { modelDir: await tinyModel(t, 'float') }));
  const { architecture, topK } = model.manifest;
  for (let row = 0; row < ROWS; row++) {
    const state = Float32Array.from({ length: architecture.hidden }, (_, i) => Math.sin((row + 1) * (i + 1)));
    model.device.upload([{ target: head.input(row), source: new Uint8Array(state.buffer) }]);
  }
  head.norms.fill(0n, 0, ROWS);
  head.logits(ROWS);
  const [first, ...others] = Array.from({ length: ROWS }, (_, row) => head.fullLogits(row).slice());
  head.applyPenalties(1, new Map([[5, 2]]));
  t.same(head.fullLogits(0), first, 'a penalty changes only its own row');
  t.ok(Math.abs((others[0]?.[5] ?? NaN) - (head.fullLogits(1)[5] ?? NaN) - 2) < 1e-5);

  for (let row = 1; row < ROWS; row++) {
    head.inverseTemperatures[row] = row / 2;
    head.targets[row] = BigInt(row + 3);
  }
  head.select(1, ROWS - 1);
  for (let row = 1; row < ROWS; row++) {
    const logits = head.fullLogits(row);
    const lse = (inverse: number): number => Math.log(logits.reduce((sum, x) => sum + Math.exp(x * inverse), 0));
    const order = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    const found = head.selected(row);
    t.same([...found.ids].map(Number), order.slice(0, topK), `row ${row}`);
    t.equal(found.values[0], logits[order[0] ?? 0]);
    t.equal(found.target, logits[row + 3]);
    t.ok(Math.abs(found.lse - lse(1)) < 1e-4);
    t.ok(Math.abs(found.lseT - lse(row / 2)) < 1e-4);
  }
  head.argmax(ROWS);
  for (let row = 0; row < ROWS; row++) {
    const logits = head.fullLogits(row);
    t.equal(Number(head.argmaxIds[row]), logits.indexOf(Math.max(...logits)));
  }
});
