/** The cache of bindings frees them above its limit. */
import t, { type Test } from 'tap';
import { BindingCache } from '../../src/engine/runtime/session.js';
import { HiddenStateCache } from '../../src/engine/model/kv-cache.js';
import { cpuDevice } from '../../src/engine/runtime/device.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';

void t.test('a binding is made once and run each time; beyond the limit all are freed', async (t) => {
  const alive = new Set<string>();
  let made = 0;
  let runs = 0;
  const cache = new BindingCache(4);
  const run = (key: string): void => {
    cache.run(key, () => {
      made++;
      alive.add(key);
      return { run: () => runs++, dispose: () => alive.delete(key) };
    });
  };
  for (const key of ['a', 'b', 'a', 'b', 'c', 'd']) run(key);
  t.equal(made, 4);
  t.equal(runs, 6);
  for (let first = 0; first < 10; first++) {
    for (let rows = 1; rows < 10; rows++) {
      run(`${first}/${rows}`);
      t.ok(alive.size <= 4, `${alive.size} alive`);
    }
  }
  cache.dispose();
  t.equal(alive.size, 0);
  run('a');
  t.strictSame([...alive], ['a'], 'the cache stays usable');
});

// Hidden states of slots that are copied.

const device = cpuDevice(createEnvironment(1));
const CAPACITY = 6;

interface Slots {
  readonly store: HiddenStateCache;
  /** The positions of a slot. */
  readonly read: (slot: number) => number[];
}

/** Two slots with one byte per position: the first holds 11 to 16, the second 21 to 26. */
function slots(t: Test): Slots {
  const store = new HiddenStateCache(device, 2, CAPACITY, 1);
  t.teardown(() => {
    store.dispose();
  });
  for (const slot of [0, 1]) {
    const source = Uint8Array.from({ length: CAPACITY }, (_, i) => 10 * (slot + 1) + i + 1);
    device.upload([{ target: store.address(slot, 0), source }]);
  }
  const read = (slot: number): number[] => {
    const bytes = new Uint8Array(CAPACITY);
    device.download(store.address(slot, 0), bytes);
    return [...bytes];
  };
  return { store, read };
}

void t.test('copy copies only the given positions, to the same positions', (t) => {
  const { store, read } = slots(t);
  store.copy(0, 1, 2, 4);
  store.copy(0, 1, 5, 5);
  t.same(read(1), [21, 22, 13, 14, 25, 26]);
  t.same(read(0), [11, 12, 13, 14, 15, 16]);
  t.end();
});
