/** Errors about a folder with an unusable manifest. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadManifest, MANIFEST_FILE } from '../../src/model/manifest-io.js';
import { MODEL } from '../engine/helper.js';

void t.test('an unknown version is named, and a folder without a manifest gets its own error', (t) => {
  const dir = t.testdir({});
  t.throws(() => loadManifest(dir), { message: /is not a model folder \(it has no manifest\.json\)/ });
  for (const version of [0, 1.5, 4]) {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ format: 'sortie', version }));
    t.throws(() => loadManifest(dir), { message: new RegExp(`: version must be 1 to 3, got ${version}$`) });
  }
  writeFileSync(join(dir, MANIFEST_FILE), '{');
  t.throws(() => loadManifest(dir), { message: /^cannot read .*manifest\.json: / });
  t.end();
});

void t.test('a manifest of version 1 or 2 gets the description of its Llama', (t) => {
  const dir = t.testdir();
  const stored = JSON.parse(readFileSync(join(MODEL, MANIFEST_FILE), 'utf8')) as { architecture: object };
  const old = {
    ...{ family: 'llama', layers: 2, hidden: 64, heads: 4, kvHeads: 2, headDim: 16, ffn: 96, vocab: 264, context: 32 },
    ...{ normEps: 1e-5, ropeTheta: 5e5, tiedHead: true, attentionBias: true },
    ropeScaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 16 },
  };
  const load = (version: number, architecture: object) => {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...stored, version, architecture }));
    return loadManifest(dir);
  };
  for (const version of [1, 2]) {
    const { version: loaded, architecture } = load(version, old);
    t.equal(loaded, 3);
    t.strictSame(architecture, {
      ...{ layers: 2, hidden: 64, heads: 4, kvHeads: 2, headDim: 16, ffn: 96, vocab: 264, context: 32 },
      ...{ normEps: 1e-5, tiedHead: true, qkvBias: true, outputBias: true, qkNorm: 'none', norms: 'pre' },
      ...{
        activation: 'silu',
        attentionScale: 0.25,
        softcap: null,
        logitSoftcap: null,
        embeddingScale: 1,
        queryGrowth: null,
      },
      rotary: [{ theta: 5e5, width: 16, scaling: old.ropeScaling }],
      pattern: [{ rotary: 0, window: null }],
    });
    t.strictSame(load(3, architecture).architecture, architecture, 'as version 3 it stays');
  }
  t.throws(() => load(2, { ...old, family: 'other' }), { message: /: \/architecture\/family must be llama$/ });
  t.throws(() => load(2, { ...old, ropeTheta: '5e5' }), { message: /: \/architecture\/ropeTheta must be number$/ });
  t.throws(() => load(3, old), { message: /manifest\.json: \/architecture must have required properties/ });
  const plain = load(2, old).architecture;
  t.throws(() => load(3, { ...plain, pattern: [{ rotary: 1, window: null }] }), {
    message: /: \/architecture\/pattern\/0\/rotary must be below 1$/,
  });
  t.end();
});

void t.test('inconsistent stages and exits are named', (t) => {
  const dir = t.testdir();
  const manifest = loadManifest(MODEL);
  const [stages, exits] = [manifest.stages, manifest.exits];
  const [first, second] = exits;
  if (first === undefined || second === undefined) throw new Error('the model has several exits');
  const wrong: [object, RegExp][] = [
    [{ exits: exits.slice(1) }, /: \/exits must be one for each of the \d+ stages$/],
    [{ exits: [second, first, ...exits.slice(2)] }, /: \/exits\/0\/stage must be 0$/],
    [{ exits: [{ ...first, layer: second.layer }, ...exits.slice(1)] }, /: \/exits\/1\/layer must be above \d+$/],
    [{ exits: [{ ...first, block: second.block }, ...exits.slice(1)] }, /: \/exits\/0\/block\/boundary must be 1$/],
    [{ stages: [...stages].reverse() }, /: \/stages\/0\/boundary must be 0$/],
    [
      { exits: [{ ...first, quality: { right: 1.1 } }, ...exits.slice(1)] },
      /: \/exits\/0\/quality\/right must be <= 1$/,
    ],
    [
      {
        kept: [
          [1, 0],
          [5, 1],
        ],
      },
      /: \/kept\/0 must be \[0,0\], got \[1,0\]$/,
    ],
    [
      {
        kept: [
          [0, 0],
          [9, 0.5],
          [9, 1],
        ],
      },
      /: \/kept\/2\/0 must be above 9, got 9$/,
    ],
    [
      {
        kept: [
          [0, 0],
          [9, 0.5],
          [12, 0.5],
        ],
      },
      /: \/kept\/2\/1 must be above 0\.5, got 0\.5$/,
    ],
    [
      {
        kept: [
          [0, 0],
          [9, 0.5],
        ],
      },
      /: \/kept\/1\/1 must be 1, got 0\.5$/,
    ],
    [
      {
        kept: [
          [0, 0],
          [9.5, 1],
        ],
      },
      /: \/kept\/1\/0 must be integer$/,
    ],
    [{ kept: [[0, 0]] }, /: \/kept must /],
  ];
  for (const [part, message] of wrong) {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, ...part }));
    t.throws(() => loadManifest(dir), { message });
  }
  t.end();
});

void t.test('sampling defaults are optional, and a wrong one is named with its rule', (t) => {
  const dir = t.testdir();
  const manifest = loadManifest(MODEL);
  const load = (generation: unknown) => {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, generation }));
    return loadManifest(dir).generation;
  };
  t.equal(load(undefined), undefined);
  for (const right of [
    {},
    { temperature: 0 },
    { temperature: 2, topP: 1, topK: 40, minP: 0.05, repetitionPenalty: 1.1 },
  ])
    t.strictSame(load(right), right);
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

void t.test('lengths of answers are optional, and a fault in them does not stop a folder from loading', (t) => {
  const dir = t.testdir();
  const manifest = loadManifest(MODEL);
  const load = (lengths: unknown) => {
    const exits = manifest.exits.map((exit) => ({ ...exit, lengths }));
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, exits }));
    return loadManifest(dir).exits[0]?.lengths;
  };
  t.equal(load(undefined), undefined);
  const chat = [
    [0.5, 20],
    [0.9, 100],
  ];
  t.strictSame(load({ chat }), { chat });
  t.strictSame(load({ chat: [] }), { chat: [] });
  for (const wrong of [{ chat: [[0, 20]] }, { chat: 'short' }, {}, [], 7, null]) t.strictSame(load(wrong), wrong);
  t.end();
});

void t.test('graphs for GPUs of an earlier version must be converted again', (t) => {
  const dir = t.testdir();
  const manifest = { ...loadManifest(MODEL), kernels: ['w8a16'], floatType: 'f16' };
  const load = (pages: unknown): unknown => {
    writeFileSync(join(dir, MANIFEST_FILE), JSON.stringify({ ...manifest, pages }));
    return loadManifest(dir).pages;
  };
  t.throws(() => load({ positions: 64, lower: 'lower.onnx' }), {
    message: /earlier version; convert the model again with --kernels w8a16$/,
  });
  t.same(load({ layout: 2, lower: 'lower.onnx' }), { layout: 2, lower: 'lower.onnx' });
  t.end();
});
