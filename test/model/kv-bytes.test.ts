/**
 * An int8 KV cache: decode and catch-up write the same bits. The exit may therefore change mid-stream, and a sequence
 * may be resumed, without an effect on the answer.
 */
import t from 'tap';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { advanceTo, decodeRows, distance, logitsAt, makeExecutor, openSlot, slotParts } from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';

const bytesModel = await tinyModel(t, 'int8');
const floatModel = await tinyModel(t, 'float');
const executor = await makeExecutor(t, { modelDir: bytesModel });
const context = loadManifest(bytesModel).architecture.context;
const prompt = Array.from({ length: Math.min(context - 1, 60) }, (_, i) => 2 + ((i * 37) % 200));
const last = prompt.length - 1;

t.afterEach(() => {
  executor.forget(0);
});

void t.test('an int8 cache takes a quarter of the bytes; its logits are those of floats up to rounding', async (t) => {
  const floats = await makeExecutor(t, { modelDir: floatModel });
  const [quarter, whole] = [executor, floats].map((each) => slotParts(each).model.stages[0]?.kv.bytesPerPosition);
  t.equal((quarter ?? NaN) * 4, whole);
  for (const exit of [0, 1]) {
    const [bytes, expected] = [executor, floats].map((each) => {
      const slot = openSlot(each, prompt);
      advanceTo(each, slot, exit, last);
      return logitsAt(each, slot, exit);
    });
    const error = distance(bytes ?? new Float32Array(0), expected ?? new Float32Array(0));
    t.ok(error > 0 && error < 0.5, `exit ${exit}: ${error}`);
  }
});

void t.test('decode writes the same bits as a chunk, with or without a shallow exit before', async (t) => {
  const chunked = openSlot(executor, prompt);
  advanceTo(executor, chunked, 1, last);
  const expected = logitsAt(executor, chunked, 1);
  for (const shallow of [0, 15, 30]) {
    const slot = openSlot(executor, prompt.slice(0, 11));
    advanceTo(executor, slot, 0, 10);
    if (shallow === 0) advanceTo(executor, slot, 1, 10);
    for (let next = 11; next <= last; next++) {
      const exit = next - 11 < shallow ? 0 : 1;
      // The deep stage catches up in one chunk over the positions of the shallow exit.
      advanceTo(executor, slot, exit, next - 1);
      decodeRows(executor, [{ slot, exit: executor.exit(exit) }]);
      slot.tokens.push(prompt[next] ?? -1);
    }
    t.equal(distance(logitsAt(executor, slot, 1), expected), 0, `${shallow} tokens at the shallow exit`);
  }
});
