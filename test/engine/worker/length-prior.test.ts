/** A model folder's prior of output lengths: a valid prior is used; an invalid one is reported and stops no engine. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EngineClient } from '../../../src/engine/client/client.js';
import { folderPrior } from '../../../src/engine/worker/length-prior.js';
import { loadManifest, MANIFEST_FILE } from '../../../src/model/manifest-io.js';
import type { Manifest } from '../../../src/model/manifest.js';
import { drain, engineOptions, greedy, makeCore, makeExecutor, MODEL } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const chat = [
  [0.5, 20],
  [0.9, 100],
];

/** Two exits with these lengths. */
const withLengths = (...lengths: unknown[]): Pick<Manifest, 'exits'> => ({
  exits: lengths.map((each, stage) => ({
    ...{ layer: 10 * (stage + 1), stage, block: null, norm: 0, quality: {} },
    ...(each !== undefined && { lengths: each }),
  })),
});

void t.test('a measured prior is used, by exit', async (t) => {
  t.strictSame(folderPrior(withLengths({ chat }, { chat: [[0.5, 30]] })), { prior: [chat, [[0.5, 30]]], fault: null });
  const { exits } = loadManifest(MODEL);
  const { prior, fault } = folderPrior({ exits });
  t.equal(fault, null);
  t.equal(prior?.length, exits.length, 'the embedded model has a prior');
});

void t.test('an unusable prior is not used, and its fault is named', async (t) => {
  const wrong: [unknown, RegExp][] = [
    [undefined, /^exit 20 has no lengths$/],
    [7, /^\/exits\/1\/lengths must be object$/],
    [{}, /^\/exits\/1\/lengths must have required properties chat$/],
    [{ chat: 'short' }, /^\/exits\/1\/lengths\/chat must be array$/],
    [{ chat: [[0.5]] }, /^\/exits\/1\/lengths\/chat\/0 /],
    [{ chat: [[0, 20]] }, /^\/exits\/1\/lengths\/chat\/0\/0 /],
    [{ chat: [[1, 20]] }, /^\/exits\/1\/lengths\/chat\/0\/0 /],
    [{ chat: [[0.5, 0]] }, /^\/exits\/1\/lengths\/chat\/0\/1 /],
    [{ chat: [[0.5, 2.5]] }, /^\/exits\/1\/lengths\/chat\/0\/1 must be integer$/],
    [{ chat: [] }, /^the prior has an exit without quantiles$/],
    [{ chat: [...chat].reverse() }, /^the prior has the share 0.5 after 0.9/],
    [{ chat: [...chat, [0.95, 100]] }, /^the prior has 100 tokens after 100/],
  ];
  for (const [lengths, fault] of wrong) {
    const found = folderPrior(withLengths({ chat }, lengths));
    t.equal(found.prior, null);
    t.match(found.fault, fault);
  }
});

void t.test('an engine serves without the prior of its folder, and states the reason', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const file = join(modelDir, MANIFEST_FILE);
  const executor = await makeExecutor(t, { modelDir });
  const core = makeCore(executor, { modelDir });
  const [first = 0, last = 0] = loadManifest(modelDir).exits.map(({ layer }) => layer);
  t.equal(core.lengthPriorFault, `exit ${first} has no lengths`);
  core.submit(greedy('a', [1], last, 4));
  t.match(drain(core).get('a')?.ended?.reason, /^(length|stop)$/);

  const manifest = JSON.parse(readFileSync(file, 'utf8')) as { exits: object[] };
  const exits = manifest.exits.map((exit) => ({ ...exit, lengths: { chat: [[0.9, 'long']] } }));
  writeFileSync(file, JSON.stringify({ ...manifest, exits }));
  const engine = new EngineClient(engineOptions({ modelDir }));
  t.teardown(() => engine.close());
  const { lengthPriorFault } = await engine.start();
  t.match(lengthPriorFault, /^\/exits\/0\/lengths\/chat\/0\/1 must be integer$/);
});
