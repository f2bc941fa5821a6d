/** Errors about a folder with an unusable manifest. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadManifest, MANIFEST_FILE } from '../../src/engine/model/manifest-io.js';
import { MODEL } from '../engine/helper.js';

/** Pairs of a curve. */
const pairs = (...flat: number[]): number[][] => flat.flatMap((x, i) => (i % 2 === 0 ? [[x, flat[i + 1] ?? NaN]] : []));

void t.test('an unknown version is named, and a folder without a manifest gets its own error', (t) => {
  const dir = t.testdir({});
  t.throws(() => loadManifest(dir), { message: /is not a model folder \(it has no manifest\.json\)/ });
  for (const version of [0, 2, 3.5, 4]) {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ format: 'sortie', version }));
    t.throws(() => loadManifest(dir), {
      message: new RegExp(`: version must be 3, got ${version}; convert the model again$`),
    });
  }
  writeFileSync(join(dir, MANIFEST_FILE), '{');
  t.throws(() => loadManifest(dir), { message: /^cannot read .*manifest\.json: / });
  t.end();
});

void t.test('inconsistent stages and exits are named', async (t) => {
  const dir = t.testdir();
  const manifest = loadManifest(MODEL);
  const [stages, exits] = [manifest.stages, manifest.exits];
  const [first, second] = exits;
  if (first === undefined || second === undefined) throw new Error('the model has several exits');
  const graphs = { w8a8: 'prompt.w8a8.onnx' };
  const behind = { name: 'p', boundary: 1, layers: 2, graphs, prompt: { exit: 1, layers: 3, group: 2, graphs } };
  const { architecture } = manifest;
  const wrong: [object, RegExp][] = [
    [
      { architecture: { ...architecture, pattern: [{ rotary: 1, window: null }] } },
      /: \/architecture\/pattern\/0\/rotary must be below 1$/,
    ],
    [{ architecture: { ...architecture, vocab: 2 ** 31 } }, /: \/architecture\/vocab must be <= 16777216$/],
    [{ topK: 65 }, /: \/topK must be at most 64, got 65$/],
    [{ exits: exits.slice(1) }, /: \/exits must be one for each of the \d+ stages$/],
    [{ exits: [second, first, ...exits.slice(2)] }, /: \/exits\/0\/stage must be 0$/],
    [{ exits: [{ ...first, layer: second.layer }, ...exits.slice(1)] }, /: \/exits\/1\/layer must be above \d+$/],
    [{ exits: [{ ...first, block: second.block }, ...exits.slice(1)] }, /: \/exits\/0\/block\/boundary must be 1$/],
    [{ stages: [...stages].reverse() }, /: \/stages\/0\/boundary must be 0$/],
    [{ stages: stages.map((stage) => ({ ...stage, heads: [] })) }, /: \/stages\/0\/heads must be one for each of \d+ /],
    ...(
      [
        [7, /: \/exits\/0\/lengths must be object$/],
        [{}, /: \/exits\/0\/lengths must have required properties chat$/],
        [{ chat: [[0.5]] }, /: \/exits\/0\/lengths\/chat\/0 /],
        [{ chat: [[1, 20]] }, /: \/exits\/0\/lengths\/chat\/0\/0 /],
        [{ chat: [[0.5, 0]] }, /: \/exits\/0\/lengths\/chat\/0\/1 /],
        [{ chat: [[0.5, 2.5]] }, /: \/exits\/0\/lengths\/chat\/0\/1 must be integer$/],
        [{ chat: pairs(0.9, 20, 0.5, 30) }, /: \/exits\/0\/lengths\/chat\/1\/0 must be above 0.9, got 0.5$/],
        [{ chat: pairs(0.5, 20, 0.9, 20) }, /: \/exits\/0\/lengths\/chat\/1\/1 must be above 20, got 20$/],
      ] as const
    ).map(([lengths, fault]): [object, RegExp] => [{ exits: [{ ...first, lengths }, ...exits.slice(1)] }, fault]),
    ...(
      [
        [{ layers: 3 }, /: \/exits\/0\/block\/layers must be 2$/],
        [{ heads: [[1, 16]] }, /: \/exits\/0\/block\/heads must be one for each of 2 KV caches$/],
        [{ boundary: 2 }, /: \/exits\/0\/block\/boundary must be 1$/],
        [
          { prompt: { ...behind.prompt, graphs: { w8a8: '../x.onnx' } } },
          /: \/exits\/0\/block\/prompt\/graphs\/w8a8: .*\.\.\/x\.onnx/,
        ],
      ] as const
    ).map(([change, fault]): [object, RegExp] => [
      { exits: [{ ...first, block: { ...behind, ...change } }, ...exits.slice(1)] },
      fault,
    ]),
    [
      { exits: [{ ...first, quality: { accuracy: 1.1 } }, ...exits.slice(1)] },
      /: \/exits\/0\/quality\/accuracy must be <= 1$/,
    ],
    [{ kept: pairs(1, 0, 5, 1) }, /: \/kept\/0 must be \[0,0\], got \[1,0\]$/],
    [{ kept: pairs(0, 0, 9, 0.5, 9, 1) }, /: \/kept\/2\/0 must be above 9, got 9$/],
    [{ kept: pairs(0, 0, 9, 0.5, 12, 0.5) }, /: \/kept\/2\/1 must be above 0\.5, got 0\.5$/],
    [{ kept: pairs(0, 0, 9, 0.5) }, /: \/kept\/1\/1 must be 1, got 0\.5$/],
    [{ kept: pairs(0, 0, 9.5, 1) }, /: \/kept\/1\/0 must be integer$/],
    [{ kept: [[0, 0]] }, /: \/kept must /],
  ];
  for (const [part, message] of wrong) {
    await t.test(message.source, async (t) => {
      writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, ...part }));
      t.throws(() => loadManifest(dir), { message });
    });
  }
});

void t.test('sampling defaults are optional, and a wrong one is named with its rule', (t) => {
  const dir = t.testdir();
  const manifest = loadManifest(MODEL);
  const load = (generation: unknown) => {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, generation }));
    return loadManifest(dir).generation;
  };
  t.equal(load(undefined), undefined);
  for (const accuracy of [
    {},
    { temperature: 0 },
    { temperature: 2, topP: 1, topK: 40, minP: 0.05, repetitionPenalty: 1.1 },
  ])
    t.strictSame(load(accuracy), accuracy);
  for (const [wrong, message] of [
    [[], /: \/generation must be object$/],
    [{ temperature: 3 }, /: \/generation\/temperature must be <= 2$/],
    [{ temperature: '0.3' }, /: \/generation\/temperature must be number$/],
    [{ topP: 0 }, /: \/generation\/topP must be > 0$/],
    [{ topK: 1.5 }, /: \/generation\/topK must be integer$/],
    [{ minP: -1 }, /: \/generation\/minP must be >= 0$/],
    [{ repetitionPenalty: 0 }, /: \/generation\/repetitionPenalty must be > 0$/],
    [{ top_p: 0.9 }, /: \/generation\/top_p is not a field of this file$/],
  ] as const)
    t.throws(() => load(wrong), { message });
  t.end();
});
