/** A model folder from anyone: no name in it leads a reader to another file of this machine. */
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { loadServedModel } from '../../src/gateway/api/load-served-model.js';
import { inspect } from '../../src/convert/inspect.js';
import type { Manifest } from '../../src/engine/model/manifest.js';
import { loadManifest, MANIFEST_FILE } from '../../src/engine/model/manifest-io.js';
import { decodeModel, encodeModel } from '../../src/engine/model/onnx-proto.js';
import { checkWeightFiles } from '../../src/engine/model/onnx-weights.js';
import { insideFolder } from '../../src/util/inside-folder.js';
import { tinyModel } from '../engine/tiny-model.js';

const SECRET = 'SECRET=hunter2-not-jinja';

type Json = Record<string, unknown>;

/** Each sets one name of a manifest. */
const NAMED: Record<string, (manifest: Manifest, name: string) => object> = {
  chatTemplate: (_, chatTemplate) => ({ chatTemplate }),
  tokenizer: (_, tokenizer) => ({ tokenizer }),
  gate: (_, gate) => ({ gate }),
  embed: (_, embed) => ({ embed }),
  head: (_, head) => ({ head }),
  select: (_, select) => ({ select }),
  argmax: (_, argmax) => ({ argmax }),
  lower: (_, lower) => ({ pages: { layout: 2, lower } }),
  stage: ({ stages: [first, ...rest] }, name) => ({ stages: [{ ...first, graphs: { w8a8: name } }, ...rest] }),
  block: ({ exits: [first, ...rest], stages: [stage] }, name) => ({
    exits: [{ ...first, block: { ...stage, boundary: 1, graphs: { w8a8: name } } }, ...rest],
  }),
  files: ({ files: [first, ...rest] }, path) => ({ files: [{ ...first, path }, ...rest] }),
};

const outside = fc
  .tuple(
    fc.array(fc.constantFrom('a', '.', 'stage-0.onnx', 'x y'), { maxLength: 3 }),
    fc.integer({ min: 1, max: 12 }),
    fc.array(fc.constantFrom('secret.txt', 'etc', 'passwd', '..'), { maxLength: 3 }),
    fc.constantFrom('/', '\\'),
  )
  .map(([before, ups, behind, slash]) => [...before, ...Array<string>(ups).fill('..'), ...behind].join(slash));
const absolute = fc.constantFrom('/etc/passwd', '/proc/self/environ', '/dev/zero', '//etc/passwd', 'a\0b', '');
const inFolder = ['secret.txt', 'missing/../secret.txt'].map((name) => `folder-link/${name}`);
const link = fc.constantFrom('link-to-secret', ...inFolder, 'fifo', 'sub');

void t.test('every name of a manifest stays in its folder, before anything is read', async (t) => {
  const dir = await tinyModel(t, 'float');
  const outer = t.testdir({ 'secret.txt': SECRET });
  const manifest = loadManifest(dir);
  symlinkSync(join(outer, 'secret.txt'), join(dir, 'link-to-secret'));
  symlinkSync(outer, join(dir, 'folder-link'));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  execFileSync('mkdir', [join(dir, 'sub')]);
  const write = (part: object): void => {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, ...part }));
  };
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...Object.keys(NAMED)), fc.oneof(outside, absolute, link), async (field, name) => {
      write(NAMED[field]?.(manifest, name) ?? {});
      const rule = /must name files of its folder|must be in its folder|it is (a folder|not a regular file)/;
      t.throws(() => loadServedModel(dir), { message: rule }, `${field} ${name}`);
      await t.rejects(inspect(dir), { message: rule });
    }),
    { numRuns: 150 },
  );
  write({});
  loadServedModel(dir);
  t.ok(await inspect(dir), 'links that no name leads to are harmless');
});

void t.test('links within a folder, and those of the cache of the hub, lead to files', async (t) => {
  const cache = t.testdir({ blobs: { abc: SECRET }, snapshots: { main: { real: 'x' } } });
  const folder = join(cache, 'snapshots', 'main');
  symlinkSync('real', join(folder, 'own'));
  symlinkSync('../../blobs/abc', join(folder, 'blob'));
  t.equal(readFileSync(insideFolder(folder, 'own'), 'utf8'), 'x');
  t.equal(readFileSync(insideFolder(folder, 'blob'), 'utf8'), SECRET);
  t.equal(insideFolder(folder, 'missing/file'), join(folder, 'missing', 'file'));
});

void t.test('graphs name weights of their folder, in initializers alone', async (t) => {
  const from = await tinyModel(t, 'float');
  const dir = join(t.testdir(), 'model');
  cpSync(from, dir, { recursive: true });
  const manifest = loadManifest(dir);
  const file = join(dir, manifest.embed);
  const bytes = readFileSync(file);
  const check = (): void => {
    checkWeightFiles(dir, [manifest.embed, manifest.embed, manifest.head]);
  };
  check();
  const lead = (location: string): void => {
    const model = decodeModel(bytes);
    const entry = model.graph.initializer
      .flatMap(({ external_data: entries = [] }) => entries)
      .find(({ key }) => key === 'location');
    if (entry === undefined) throw new Error('the embedding lies in a weight file');
    entry.value = location;
    writeFileSync(file, encodeModel(model));
  };
  for (const location of ['../secret.txt', '/etc/passwd', 'sub/../../x']) {
    lead(location);
    t.throws(check, { message: /embed\.onnx: .*must name files of its folder/ });
    const files = manifest.files.filter(({ path }) => path !== manifest.embed);
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, files } satisfies Json));
    await t.rejects(inspect(dir), { message: /must name files of its folder/ });
  }
  // A field that the decoder skips: 0x7a is field 15, sparse initializers.
  const entry = Buffer.concat([Buffer.from([0x0a, 8]), Buffer.from('location'), Buffer.from([0x12, 1, 0x78])]);
  writeFileSync(file, Buffer.concat([bytes, Buffer.from([0x7a, entry.length]), entry]));
  t.throws(check, { message: /must name each weight file in an initializer, and nowhere else/ });
});
