/**
 * A copy of the embedded model with inflated weight files. Each of the dozens of engines of a test run saves a second of
 * processor time. Tests that run alone load the compressed files, as `npm start` does.
 */
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describeFile, loadManifest, MANIFEST_FILE } from '../src/engine/model/manifest-io.js';

/**
 * Writes the copy, unless one of the same age or newer is there.
 * @param from the folder of the model
 * @param to the folder of the copy
 */
export async function inflateModel(from: string, to: string): Promise<void> {
  const modifiedMs = (dir: string) => statSync(join(dir, MANIFEST_FILE), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (modifiedMs(to) > modifiedMs(from)) return;
  mkdirSync(to, { recursive: true });
  const manifest = loadManifest(from);
  const files = await Promise.all(
    manifest.files.map(async (entry) => {
      const name = entry.path.replace(/\.gz$/, '');
      if (name === entry.path) {
        copyFileSync(join(from, name), join(to, name));
        return entry;
      }
      writeFileSync(join(to, name), gunzipSync(readFileSync(join(from, entry.path))));
      return describeFile(to, name);
    }),
  );
  // The manifest comes last, so that a copy without it is not whole.
  writeFileSync(join(to, MANIFEST_FILE), `${JSON.stringify({ ...manifest, files }, null, 2)}\n`);
}
