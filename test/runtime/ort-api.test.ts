import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { collectGarbage } from '../../src/util/memory.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { loadOrt } from '../../src/engine/runtime/ort-api.js';

void t.test('the library stays loaded after garbage collection', async (t) => {
  const ort = loadOrt();
  for (let i = 0; i < 5; i++) {
    await collectGarbage();
    await turn();
  }
  // More threads would themselves pin the library. A call into an unloaded library kills this process.
  createEnvironment(1);
  t.equal(loadOrt(), ort);
  t.match(ort.version, /^\d+\.\d+/);
});
