/** The cache of bindings frees them above its limit. */
import t from 'tap';
import { BindingCache } from '../../src/engine/runtime/session.js';

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
