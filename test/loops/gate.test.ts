/** The gate of a looped model: its values are those of the public code. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { loadGate } from '../../src/engine/model/gate.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { goldenLoops } from '../convert/golden-loops.js';
import { writeGoldenFolder } from '../convert/golden-model.js';
import { advance, makeExecutor, openSlot } from '../engine/helper.js';

const model = goldenLoops('ouro-4');

async function folderOf(t: Test): Promise<string> {
  const dir = t.testdir();
  const source = writeGoldenFolder(path.join(dir, 'hf'), model);
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

void t.test('a gate of another size is an error that names the file', async (t) => {
  const dir = await folderOf(t);
  writeFileSync(path.join(dir, 'gate.bin'), new Uint8Array(12));
  t.throws(() => loadGate(dir, loadManifest(dir)), { message: /gate\.bin must hold 65 floats, got 12 bytes/ });
});
