/** Collects garbage once after loading. Without this, memory of the startup stays until the heap has grown. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  // V8 frees the buffers that a collection found only after that collection.
  await new Promise(setImmediate);
  collect();
}
