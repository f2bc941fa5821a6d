/** A looped model on a GPU: one session runs all loops, each over its own pages, and every loop has the CPU's logits. */
import { join } from 'node:path';
import t from 'tap';
import { goldenLoops } from '../convert/golden-loops.js';
import { writeGoldenFolder } from '../convert/golden-model.js';
import { advanceTo, logitsBehind, rmsShare } from '../engine/helper.js';
import { convertedPair, needsGpu } from './helper.js';

/** Of the largest logit. */
const SHARE = 5e-3;

if (needsGpu())
  void t.test('four loops, in order and caught up later', async (t) => {
    const model = goldenLoops('ouro-4');
    const dir = t.testdir();
    const source = writeGoldenFolder(join(dir, 'source'), model);
    const [cpu, gpu] = await convertedPair(t, source);
    t.equal(new Set(gpu.model.stages.flatMap(({ sessions }) => [...sessions.values()])).size, 1, 'one session');
    for (const { ids } of model.prompts)
      for (const loop of [0, 3, 1, 2]) {
        const [expected, found] = logitsBehind([cpu, gpu], ids, loop, (executor, slot) => {
          for (const exit of [0, loop]) advanceTo(executor, slot, exit, ids.length - 1);
        });
        const error = rmsShare(expected, found);
        t.ok(error <= SHARE, `${ids.length} positions, ${loop + 1} loops: rms ${error} of the largest logit`);
      }
  });
