/**
 * Collects garbage once, after loading: what start-up leaves behind would otherwise stay until the heap has grown.
 *
 * Knows: V8. Must not know: what was loaded.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  // V8 frees the buffers that a collection found after it.
  await new Promise(setImmediate);
  collect();
}
