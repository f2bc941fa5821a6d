import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { collectGarbage } from '../../src/util/memory.js';
import { createEnvironment } from '../../src/runtime/environment.js';
import { loadOrt } from '../../src/runtime/ort-api.js';

void t.test('the library stays loaded when garbage is collected', async (t) => {
  const ort = loadOrt();
  for (let i = 0; i < 5; i++) {
    await collectGarbage();
    await turn();
  }
  // More threads would pin the library by themselves. A call into an unloaded one ends this process.
  createEnvironment(1);
  t.equal(loadOrt(), ort);
  t.match(ort.version, /^\d+\.\d+/);
});
