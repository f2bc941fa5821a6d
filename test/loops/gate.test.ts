/** The gate of a looped model: its values are those of the public code, and audits report their means. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { cumulated, loadGate } from '../../src/engine/model/gate.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { GateMeans } from '../../src/gateway/quality/gate-means.js';
import { goldenLoops, loopWeights } from '../convert/golden-loops.js';
import { writeGoldenFolder } from '../convert/golden-model.js';
import { advance, auditsOf, drain, greedy, makeCore, makeExecutor, openSlot } from '../engine/helper.js';

const model = goldenLoops('ouro-4');
const audit = { busyShare: 0 };

async function folderOf(t: Test): Promise<string> {
  const dir = t.testdir();
  const source = writeGoldenFolder(path.join(dir, 'hf'), { ...model, prompts: [] }, {}, loopWeights(model));
  const out = path.join(dir, 'out');
  await convert({ source, out, kernels: ['fp32'], compress: false, force: false });
  return out;
}

void t.test('probabilities at every loop equal those of the public code', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await folderOf(t) });
  const { gate } = executor.model;
  for (const { ids, positions } of model.prompts) {
    const slot = openSlot(executor, ids);
    for (let loop = 0; loop < 4; loop++) {
      const output = advance(executor, slot, loop, ids.length);
      for (const { at, loops } of positions) {
        const state = output?.read(at) ?? null;
        const stop = state === null ? NaN : gate?.stop(state);
        const expected = 1 / (1 + Math.exp(-(loops[loop]?.gate ?? NaN)));
        t.ok(Math.abs((stop ?? NaN) - expected) < 1e-4, `position ${at}, loop ${loop + 1}: ${stop}, ${expected}`);
      }
    }
    executor.table.drop(slot);
  }
});

void t.test('the cumulated probability never falls, and full depth has the rest', (t) => {
  t.strictSame(cumulated([0.5, 0.5, 1]), [0.5, 0.75, 1]);
  t.strictSame(cumulated([0, 0]), [0, 0]);
  t.end();
});

void t.test('an audit has the means over the positions of the answer', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await folderOf(t), audit, maxRunning: 4 });
  const core = makeCore(executor, { audit });
  const { ids } = model.prompts[0] ?? { ids: [] };
  core.submit(greedy('a', ids, 1, 9));
  const { tokens = [] } = drain(core).get('a') ?? {};
  const [event] = await auditsOf(core);
  const all = [...ids, ...tokens];
  const slot = openSlot(executor, all);
  const stops: number[][] = [];
  for (let loop = 0; loop < 3; loop++) {
    const output = advance(executor, slot, loop, all.length - 1);
    const places = all.slice(ids.length - 1, -1).map((_, i) => ids.length - 1 + i);
    stops.push(places.map((place) => executor.model.gate?.stop(output?.read(place) ?? new Float32Array(0)) ?? NaN));
  }
  const sums = tokens.map((_, i) => cumulated(stops.map((each) => each[i] ?? NaN)));
  const means = [0, 1, 2].map((loop) => sums.reduce((sum, each) => sum + (each[loop] ?? NaN), 0) / sums.length);
  t.equal(event?.skipped, null);
  t.equal(event?.gate?.length, 4);
  for (const [loop, mean] of [...means, 1].entries()) {
    const found = event?.gate?.[loop] ?? NaN;
    t.ok(Math.abs(found - mean) < 1e-5, `loop ${loop + 1}: ${found}, ${mean}`);
  }
  t.ok(event?.probe !== null, 'the probed loop is measured as well');
});

void t.test('a gate of another size is an error that names the file', async (t) => {
  const dir = await folderOf(t);
  writeFileSync(path.join(dir, 'gate.bin'), new Uint8Array(12));
  t.throws(() => loadGate(dir, loadManifest(dir)), { message: /gate\.bin must hold 65 floats, got 12 bytes/ });
});

void t.test('means over answers', (t) => {
  const means = new GateMeans();
  t.equal(means.of(0), null);
  means.observe([0.2, 1]);
  means.observe([0.4, 1]);
  t.ok(Math.abs((means.of(0) ?? NaN) - 0.3) < 1e-12);
  t.equal(means.of(1), 1);
  t.end();
});
