/** What is said of a folder whose manifest can't be used. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadManifest, MANIFEST_FILE } from '../../src/model/manifest-io.js';

void t.test('a version that is not known is named, and what is no model folder is told so', (t) => {
  const dir = t.testdir({});
  t.throws(() => loadManifest(dir), { message: /is not a model folder \(it has no manifest\.json\)/ });
  for (const version of [0, 1.5, 3]) {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ format: 'sortie', version }));
    t.throws(() => loadManifest(dir), { message: new RegExp(`: version must be 1 to 2, got ${version}$`) });
  }
  writeFileSync(join(dir, MANIFEST_FILE), '{');
  t.throws(() => loadManifest(dir), { message: /^cannot read .*manifest\.json: / });
  t.end();
});
