/** Invalid options of a conversion: each gives one clear error and leaves no output. */
import { readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { describe } from '../../src/convert/convert-command.js';
import { inspect } from '../../src/convert/inspect.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { LAYER_SHAPES, random, safetensors, SHAPE, weight, type Weight, run, OPTIONS } from './tiny.js';
import { folder, rejectsOptions } from './rejected.js';

void t.test('invalid options and exits are rejected', (t) =>
  rejectsOptions(t, folder(), {
    'must increase, got 2,1,3': { exits: [2, 1, 3] },
    'must end at the last layer, 3, got 1,2': { exits: [1, 2] },
    "w4a16 can't be combined...": { kernels: ['w8a8', 'w4a16'] },
    '--weight-bits must be ..., got 4': { weightBits: 4 },
    '--weight-bits has an effect only with --kernels w8a8 or w8a16, got ...--kernels fp32': { weightBits: 7 },
    '--calibration has an effect only with --kernels w8a8, int4 or w4a16, or --kv int8, got ...--kernels fp32': {
      calibration: 'x',
    },
    '--generation must be a list of name=value with the names temperature, ..., got heat=1': {
      generation: 'temperature=0.3,heat=1',
    },
    '--generation top_p must be a number above 0 and at most 1, got 1.5': { generation: 'top_p=1.5' },
    'got 8,2': { dry: [8, 2] },
    'got 8,0.5,3': { dry: [8, 0.5, 3] },
  }),
);

void t.test('an existing output folder is replaced only with --force', async (t) => {
  const dir = t.testdir();
  const source = folder()(dir);
  await run(dir, source);
  await t.rejects(run(dir, source), {
    isUsage: true,
    message: /--out .* exists; choose another folder or add --force/,
  });
  await run(dir, source, { force: true });
  t.ok(loadManifest(path.join(dir, 'out')));
});

void t.test('--force replaces neither an input nor a folder that is not a model folder', async (t) => {
  const dir = t.testdir({
    notes: { 'notes.txt': 'of years' },
    foreign: { 'manifest.json': '{"format": "another"}' },
    empty: {},
    file: 'text',
    [`out.partial-${process.pid}`]: { 'stale.bin': 'of a killed run' },
  });
  const at = (name: string) => path.join(dir, name);
  const source = folder()(dir);
  symlinkSync(source, at('link'));
  symlinkSync(at('nothing'), at('dangling'));
  const quality = at('empty/quality.json');
  const force = (out: string, options: Partial<ConvertOptions> = {}) =>
    run(dir, source, { out: at(out), force: true, ...options });
  for (const out of ['hf', '.', 'link'])
    for (const forced of [true, false])
      await t.rejects(
        force(out, { force: forced }),
        { isUsage: true, message: /--out must be a folder without input files, got .* with .*hf$/ },
        out,
      );
  for (const out of ['notes', 'foreign', 'file'])
    await t.rejects(force(out), { isUsage: true, message: /--force replaces only an empty folder or a model/ }, out);
  await t.rejects(force('dangling'), { isUsage: true, message: /is a link to a missing target$/ });
  t.equal(readFileSync(at('notes/notes.txt'), 'utf8'), 'of years');
  t.ok(readdirSync(source).includes('model.safetensors'));
  writeFileSync(quality, '{"1": {"kl": 0.5}}');
  await t.rejects(force('empty', { quality }), { isUsage: true, message: /with .*quality\.json$/ });
  rmSync(quality);
  await force('empty');
  await force('empty');
  t.ok(loadManifest(at('empty')));
  await force('out');
  t.notOk(readdirSync(at('out')).includes('stale.bin'));
  const left = readdirSync(dir).filter((name) => /partial|old/.test(name));
  t.strictSame(left, [`out.partial-${process.pid}`], 'no other folder is left');
});

void t.test('a folder with a name that is not a valid model name is rejected', async (t) => {
  const dir = t.testdir();
  const message = /^--name must be a name of letters, .*, got none, and the folder's name mine:15 does not match$/;
  await t.rejects(convert({ ...OPTIONS, source: folder()(dir), out: path.join(dir, 'mine:15') }), {
    isUsage: true,
    message,
  });
});

void t.test('the quality file must name exits, and valid fields', async (t) => {
  const dir = t.testdir({
    'good.json': '{"1": {"kl": 0.5, "agreement": 0.75}}',
    'bad.json': '{"2": {}}',
    'spelt.json': '{"1": {"agrement": 0.75}}',
  });
  const source = folder()(dir);
  const quality = (name: string) => run(dir, source, { quality: path.join(dir, name) });
  await t.rejects(quality('bad.json'), { isUsage: true, message: /2 is not one of the exits 1, 3/ });
  await t.rejects(quality('spelt.json'), { isUsage: false, message: /\/1\/agrement is not a field of this file/ });
  const measured = (await quality('good.json')).exits.map((exit) => exit.quality);
  t.strictSame(measured, [{ kl: 0.5, agreement: 0.75 }, {}]);
});

void t.test('a rule against loops applies to every exit', async (t) => {
  const dir = t.testdir();
  const source = folder()(dir);
  const rules = (await run(dir, source, { dry: [8, 2, 3] })).exits.map((exit) => exit.dry);
  t.strictSame(rules, new Array(2).fill({ multiplier: 8, base: 2, allowedLength: 3 }));
  t.match(describe(dir, await inspect(path.join(dir, 'out'))), /exit +1 .*, dry 8,2,3\n/);
});

void t.test('exit blocks of another model are rejected', async (t) => {
  const dir = t.testdir();
  const source = folder()(dir);
  const exitBlocks = path.join(dir, 'blocks.safetensors');
  const norm: [string, Weight] = ['exits.1.norm.weight', weight(random(1), [SHAPE.hidden])];
  const part = (name: string, shape: readonly number[]): [string, Weight] => [
    `exits.1.layers.0.${name}`,
    weight(random(1), [...shape]),
  ];
  const layer = LAYER_SHAPES.map(([name, shape]) => part(name, shape));
  const found = `${exitBlocks} has a block of it (exits.2.norm.weight)`;
  const beyond = `--exits must name 2 below the last layer, since ${found}, got 1,3`;
  const more = 'must run more layers than the one before, its block included; got 2, 2, 3';
  for (const [blocks, isUsage, message, exits] of [
    [[['exits.2.norm.weight', norm[1]]], true, beyond],
    [[[norm[0], weight(random(1), [8])]], false, 'tensor exits.1.norm.weight must have shape [64], got [8]'],
    [[part('mlp.up_proj.weight', [SHAPE.ffn, SHAPE.hidden])], false, 'exits.1.norm.weight'],
    [[norm, ...layer, part('mlp.up_proj.bias', [SHAPE.ffn])], false, 'got exits.1.layers.0.mlp.up_proj.bias'],
    [[norm, ...layer], true, more, [1, 2, 3]],
  ] as [blocks: [string, Weight][], isUsage: boolean, message: string, exits?: number[]][]) {
    writeFileSync(exitBlocks, safetensors(blocks));
    await t.rejects(run(dir, source, { exitBlocks, ...(exits && { exits }) }), { isUsage, message });
  }
  await t.rejects(run(dir, source, { exitBlocks: dir }), {
    isUsage: false,
    message: `cannot read ${dir}: it is a folder`,
  });
});
