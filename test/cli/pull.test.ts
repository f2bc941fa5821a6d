/** `sortie pull` and `serve --model` with names of the hub, GGUF files and folders, against a server that plays the hub. */
import type { ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import t, { type Test } from 'tap';
import { servedFolder } from '../../src/cli/cached-model.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { writeGguf, writeGgufParts, ggufMetadata, tinyWeights } from '../convert/tiny.js';
import { serve } from '../deploy/helper.js';
import { type Behaviour, COMMIT, fakeHub } from '../fakes/hub.js';
import { sortie } from './sortie.js';

const tiny = join(packageRoot, 'test', 'golden', 'tiny');

function tinyFiles(): Map<string, Buffer> {
  return new Map(readdirSync(tiny).map((name) => [name, readFileSync(join(tiny, name))]));
}

async function setUp(t: Test, files = tinyFiles(), behaviour: Behaviour = {}) {
  const hub = await fakeHub(t, files, behaviour);
  const dir = t.testdir({ empty: {} });
  const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(dir, 'hf'), HF_TOKEN: '', XDG_CACHE_HOME: join(dir, 'cache') };
  /** Runs `sortie` in an empty folder. */
  const run = (args: readonly string[], started?: (child: ChildProcess) => void) =>
    sortie(args, { cwd: join(dir, 'empty'), env, started });
  return { hub, env, cacheDir: join(dir, 'cache', 'sortie'), run };
}

void t.test('pull makes a model ready, and serve answers from it without a request to the hub', async (t) => {
  const { hub, env, cacheDir, run } = await setUp(t);
  const first = await run(['pull', 'tiny/model']);
  const folder = join(cacheDir, 'models', 'tiny--model.w8a8');
  t.match(first, {
    code: 0,
    text: `${folder}\n`,
    errors: /^asking http.* for tiny\/model\ndownloading .*\ndownloading [^]*\nconverting [^]*100% /,
  });
  t.match(loadManifest(folder), { name: 'tiny/model', origin: `tiny/model@${COMMIT}`, kernels: ['w8a8'] });

  const { mtimeMs } = statSync(folder);
  t.match(await run(['pull', 'tiny/model']), { code: 0, text: `${folder}\n`, errors: /^(?!.*converting)/s });
  t.equal(statSync(folder).mtimeMs, mtimeMs, 'an equal commit is not converted again');
  hub.commit = 'beef'.padEnd(40, '0');
  t.match(await run(['pull', 'tiny/model']), { code: 0, errors: /converting/ });
  t.equal(loadManifest(folder).origin, `tiny/model@${hub.commit}`, 'a new commit replaces the conversion');

  const before = hub.requests.length;
  const { url } = await serve(t, 'tiny/model', [], { ...env, HF_HUB_OFFLINE: '1' });
  const body = { model: 'tiny/model', prompt: 'Hi', max_tokens: 2 };
  const answer = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  t.match(await answer.json(), { model: 'tiny/model', usage: { completion_tokens: 2 } });
  t.equal(hub.requests.length, before);
});

void t.test('serve pulls and converts a model that is not there, and --no-convert only downloads', async (t) => {
  const { env, run } = await setUp(t);
  const { code, text } = await run(['pull', 'tiny/model', '--no-convert']);
  t.equal(code, 0);
  t.ok(existsSync(join(text.trim(), 'model.safetensors')));
  t.notOk(existsSync(join(env.XDG_CACHE_HOME, 'sortie')));
  const { url } = await serve(t, 'tiny/model', ['--kernels', 'fp32'], env);
  t.match(await (await fetch(`${url}/v1/models`)).json(), { data: [{ id: 'tiny/model' }] });
});

void t.test('faults are one line: an unknown architecture, a name that is none, a hub that says no', async (t) => {
  const files = tinyFiles();
  const config = JSON.parse(files.get('config.json')?.toString() ?? '') as object;
  files.set('config.json', Buffer.from(JSON.stringify({ ...config, architectures: ['Qwen3MoeForCausalLM'] })));
  const { hub, run } = await setUp(t, files);
  const unknown = /error: .*config\.json: architecture must be one of .*, got Qwen3MoeForCausalLM\n$/;
  for (const args of [
    ['pull', 'tiny/model'],
    ['serve', '--model', 'tiny/model'],
  ])
    t.match(await run(args), { code: 1, errors: unknown });
  t.notOk(
    hub.requests.some((line) => line.startsWith('cdn') && line.includes('safetensors')),
    'no weights came',
  );
  const file = writeGguf(t.testdir({}), tinyWeights(1), { ...ggufMetadata(), 'general.architecture': 'qwen3moe' });
  const gguf = await setUp(t, new Map([['x.gguf', readFileSync(file)]]));
  const moe = /\nerror: x\.gguf: architecture must be one of .*, got "qwen3moe"\n$/;
  t.match(await gguf.run(['pull', 'tiny/model']), { code: 1, errors: moe });
  gguf.hub.files.set('x.gguf', Buffer.alloc(5000));
  t.match(await gguf.run(['pull', 'tiny/model']), { code: 1, errors: 'error: x.gguf is not a GGUF file\n' });
  t.notOk(existsSync(join(gguf.env.HF_HOME, 'hub')), 'nothing of it is kept');
  const name =
    /^error: the name must be ORG\/NAME, ORG\/NAME@REVISION or either with :FILE, and no path, got "tiny"\n$/;
  t.match(await run(['pull', 'tiny']), { code: 2, errors: name });
  t.match(await run(['pull', 'tiny/other']), { code: 1, errors: /\nerror: http.* has no model tiny\/other \(404, / });
  t.match(await run(['serve', '--model', 'nowhere']), { code: 1, errors: 'error: there is no folder nowhere\n' });
});

void t.test('a path that exists wins over a name of the hub', async (t) => {
  const { hub, env } = await setUp(t);
  const dir = t.testdir({});
  cpSync(tiny, join(dir, 'tiny', 'model'), { recursive: true });
  mkdirSync(join(dir, 'org'));
  const conversion = { cacheDir: join(dir, 'cache'), kernels: ['fp32'] as const };
  process.env.HF_ENDPOINT = env.HF_ENDPOINT;
  const before = process.cwd();
  process.chdir(dir);
  t.teardown(() => {
    process.chdir(before);
    delete process.env.HF_ENDPOINT;
  });
  const folder = await servedFolder('tiny/model', conversion);
  t.match(loadManifest(folder), { name: 'model', kernels: ['fp32'] });
  t.equal(await servedFolder(folder, conversion), folder, 'a model folder serves itself');
  t.equal(await servedFolder('org/typo', conversion), 'org/typo', 'nor is a mistake below a folder of this machine');
  t.same(hub.requests, []);
});

void t.test('a GGUF file is converted once, and again after a change', async (t) => {
  const dir = t.testdir({});
  const file = writeGguf(dir, tinyWeights(1), ggufMetadata());
  const conversion = { cacheDir: join(dir, 'cache'), kernels: ['fp32'] as const };
  const folder = await servedFolder(file, conversion);
  const { mtimeMs } = statSync(folder);
  t.equal(await servedFolder(file, conversion), folder);
  t.equal(statSync(folder).mtimeMs, mtimeMs);
  writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.alloc(32)]));
  t.not(await servedFolder(file, conversion), folder);
  await t.rejects(servedFolder(join(tiny, 'config.json'), conversion), { name: 'ConvertError' });

  const [first = '', second = ''] = writeGgufParts(dir, tinyWeights(1), 2);
  const whole = await servedFolder(first, conversion);
  t.match(basename(whole), /^tiny-[0-9a-f]{12}\.fp32$/);
  writeFileSync(second, Buffer.concat([readFileSync(second), Buffer.alloc(32)]));
  t.not(await servedFolder(first, conversion), whole, 'a change of any part counts');
});
