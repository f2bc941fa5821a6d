/** Downloads from a server that plays the hub: redirects, ranges, interruptions, refusals. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { hubAccess } from '../../src/convert/hub/repository.js';
import { pull, type PullOptions } from '../../src/convert/hub/pull.js';
import type { HubName } from '../../src/util/hub-name.js';
import { type Behaviour, COMMIT, fakeHub } from '../fakes/hub.js';

const large = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251));
const small = (text: string): Buffer => Buffer.from(text);
const folder = (): Map<string, Buffer> =>
  new Map([
    ['.gitattributes', small('*')],
    ['config.json', small('{"model_type": "llama"}')],
    ['tokenizer.json', small('{}')],
    ['pytorch_model.bin', Buffer.alloc(5000)],
    ['onnx/model.onnx', Buffer.alloc(5000)],
    ['model.safetensors', large],
    ['README.md', small('license: mit')],
  ]);

const NAME: HubName = { repo: 'tiny/model', revision: null, file: null };

async function setUp(t: Test, files = folder(), behaviour: Behaviour = {}) {
  const { cdn } = behaviour;
  // Small files come as they are.
  const ofLarge: Behaviour['cdn'] = (request, response, bytes) =>
    bytes.length === large.length && cdn?.(request, response, bytes) === true;
  const hub = await fakeHub(t, files, { ...behaviour, cdn: ofLarge });
  const home = t.testdir({});
  const run = (name: Partial<HubName> = {}, options: Partial<PullOptions> = {}, env: Record<string, string> = {}) =>
    pull({ ...NAME, ...name }, hubAccess({ HF_ENDPOINT: hub.endpoint, HF_HOME: home, ...env }), {
      signal: new AbortController().signal,
      pausesMs: [1, 1, 1],
      ...options,
    });
  return { hub, cacheDir: join(home, 'hub'), run };
}

/** The first byte that a request asks for. */
const fromOf = ({ headers }: IncomingMessage): number => Number(/\d+/.exec(headers.range ?? '0')?.[0]);

/** Answers requests of the hub with this part in their address. */
const answering = (part: string, status: number, headers: Record<string, string>, body: string): Behaviour => ({
  hub: (request, response) => {
    if (!(request.url ?? '').includes(part)) return false;
    response.writeHead(status, headers).end(body);
    return true;
  },
});

/** The parts of unfinished downloads that hold bytes. */
function parts(cacheDir: string): string[] {
  const blobs = join(cacheDir, 'models--tiny--model', 'blobs');
  return existsSync(blobs)
    ? readdirSync(blobs).filter((name) => name.endsWith('-part') && statSync(join(blobs, name)).size > 0)
    : [];
}

void t.test('a folder comes with the files that a conversion reads, and only once', async (t) => {
  const { hub, cacheDir, run } = await setUp(t);
  const events: string[] = [];
  const { path, commit } = await run(
    {},
    { progress: ({ done, total, what }) => events.push(`${done}/${total} ${what}`) },
  );
  t.equal(commit, COMMIT);
  t.equal(path, join(cacheDir, 'models--tiny--model', 'snapshots', COMMIT), 'the layout of the Hugging Face tools');
  t.same(readdirSync(path).sort(), ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json']);
  t.ok(readFileSync(join(path, 'model.safetensors')).equals(large));
  t.equal(readFileSync(join(cacheDir, 'models--tiny--model', 'refs', 'main'), 'utf8'), COMMIT);
  t.equal(events.at(-1), `${large.length}/${large.length} model.safetensors`);
  const before = hub.requests.filter((line) => line.includes('resolve')).length;
  t.equal(before, 4);
  await run();
  t.equal(hub.requests.filter((line) => line.includes('resolve')).length, before, 'nothing is downloaded twice');
});

void t.test('the token goes to the hub alone', async (t) => {
  const { hub, run } = await setUp(t);
  await run({}, {}, { HF_TOKEN: 'a-token-of-a-mirror' });
  t.same([...hub.tokens.hub], ['Bearer a-token-of-a-mirror']);
  t.same([...hub.tokens.cdn], [], 'a redirect to another origin drops it');
});

void t.test('a broken connection is taken up where it ended', async (t) => {
  let cuts = 0;
  const { hub, run } = await setUp(t, folder(), {
    cdn: (request, response, bytes) => {
      if (cuts === 3) return false;
      cuts += 1;
      const from = fromOf(request);
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
      response.write(bytes.subarray(from, from + 50_000), () => setTimeout(() => response.destroy(), 20));
      return true;
    },
  });
  const { path } = await run({}, { pausesMs: [1] });
  t.ok((await readFile(join(path, 'model.safetensors'))).equals(large));
  t.same(hub.ranges, ['bytes=50000-', 'bytes=100000-', 'bytes=150000-'], 'progress starts the count again');
});

void t.test('an interrupted download leaves its part, and the next call continues', async (t) => {
  const controller = new AbortController();
  const { hub, cacheDir, run } = await setUp(t, folder(), {
    cdn: (request, response, bytes) => {
      if (request.headers.range !== undefined) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 60_000));
      return true;
    },
  });
  const progress: PullOptions['progress'] = ({ done, what }) => {
    if (what === 'model.safetensors' && done === 60_000) controller.abort(new Error('stopped'));
  };
  await t.rejects(run({}, { signal: controller.signal, progress }), { message: 'stopped' });
  t.equal(parts(cacheDir).length, 1);
  const { path } = await run();
  t.ok((await readFile(join(path, 'model.safetensors'))).equals(large));
  t.same(hub.ranges, ['bytes=60000-']);
  t.same(parts(cacheDir), []);
});

void t.test('a faulty file is one error, and leaves nothing that the next call would trust', async (t) => {
  for (const [headers, body, message] of [
    [{}, Buffer.from(large).fill(255, 1000, 1001), /^tiny\/model: model\.safetensors is damaged: it has the checksum/],
    [{}, Buffer.concat([large, small('x')]), /is damaged: it is longer than 300000 bytes/],
    [{ 'content-encoding': 'gzip' }, 'no gzip', /the server sent it as "gzip", and identity was asked for/],
  ] as const) {
    let isFaulty = true;
    const { cacheDir, run } = await setUp(t, folder(), {
      cdn: (_request, response) => {
        if (isFaulty) response.writeHead(200, headers).end(body);
        return isFaulty;
      },
    });
    await t.rejects(run(), { name: 'HubError', message });
    t.same(parts(cacheDir), []);
    isFaulty = false;
    await run();
  }
});

void t.test('a hub that is not there is named, and a full or closed disk too', async (t) => {
  const { run } = await setUp(t);
  await t.rejects(run({}, {}, { HF_ENDPOINT: 'http://127.0.0.1:1' }), {
    message: /^http:\/\/127\.0\.0\.1:1 can't be reached \(.+\); without a network, --model takes a folder/,
  });
  await t.rejects(run({}, {}, { HF_HUB_OFFLINE: '1' }), {
    message: 'HF_HUB_OFFLINE forbids the download of tiny/model',
  });
  const file = join(t.testdir({ file: '' }), 'file');
  await t.rejects(run({}, {}, { HF_HUB_CACHE: join(file, 'below') }), {
    name: 'HubError',
    message: /can't be written \(ENOTDIR\); HF_HUB_CACHE names another folder$/,
  });
});

void t.test('a model that is larger than the free space is rejected before it comes', async (t) => {
  const lfs = { oid: 'a'.repeat(64), size: 1e15, pointerSize: 1 };
  const files = JSON.stringify([{ type: 'file', path: 'x.gguf', size: 1e15, oid: 'b'.repeat(40), lfs }]);
  const { hub, run } = await setUp(t, folder(), answering('/tree/', 200, {}, files));
  await t.rejects(run(), { name: 'HubError', message: /has [\d.]+ GB free, the model needs 1000000\.0 GB more$/ });
  t.notOk(hub.requests.some((line) => line.includes('resolve')));
});

void t.test('a model that can not be converted costs no weights', async (t) => {
  const { hub, run } = await setUp(t);
  const check = (path: string): void => {
    t.same(readdirSync(path).sort(), ['README.md', 'config.json', 'tokenizer.json']);
    throw new Error('unknown architecture');
  };
  await t.rejects(run({}, { check }), { message: 'unknown architecture' });
  t.notOk(hub.requests.some((line) => line.includes('safetensors') && line.includes('resolve')));
});

void t.test('a revision is a branch, a tag or a commit', async (t) => {
  const { hub, cacheDir, run } = await setUp(t);
  const other = 'beef'.padEnd(40, '0');
  hub.revisions.set('refs/pr/1', other);
  const refs = join(cacheDir, 'models--tiny--model', 'refs');
  t.equal((await run({ revision: 'refs/pr/1' })).commit, other);
  t.equal(readFileSync(join(refs, 'refs', 'pr', '1'), 'utf8'), other);
  t.equal((await run({ revision: other })).commit, other);
  t.same(readdirSync(refs), ['refs'], 'a commit needs no reference, and main is unknown');
  await t.rejects(run({ revision: 'v2' }), {
    name: 'HubError',
    message: /^tiny\/model at http:.* has no revision v2 \(404, Invalid rev id: v2\)$/,
  });
});

void t.test('a list that would write elsewhere, or is none, is rejected', async (t) => {
  const digest = 'b'.repeat(40);
  const entry = { type: 'file', path: 'x.gguf', size: 1, oid: digest };
  for (const change of [
    { path: '../../../escape.gguf' },
    { path: 'a/..\\\\escape.gguf' },
    { path: '/escape.gguf' },
    { path: '\u001b[2Jx.gguf' },
    { path: '' },
    { path: undefined },
    { oid: '../../x' },
    { oid: undefined },
    { size: undefined },
  ]) {
    const list = JSON.stringify([{ ...entry, ...change }]);
    const { cacheDir, run } = await setUp(t, folder(), answering('/tree/', 200, {}, list));
    const message = /^http:\S+ lists [ -~]+ in tiny\/model, which is no file of a model$/;
    await t.rejects(run(), { name: 'HubError', message }, JSON.stringify(change));
    t.notOk(existsSync(cacheDir));
  }
  for (const [answer, message] of [
    ['<html>', /answers a request for tiny\/model without JSON$/],
    ['{}', /gives tiny\/model the commit undefined$/],
    ['{"sha": "../x"}', /gives tiny\/model the commit "\.\.\/x"$/],
  ] as const) {
    const { run } = await setUp(t, folder(), answering('', 200, {}, answer));
    await t.rejects(run(), { name: 'HubError', message });
  }
});

void t.test('the index names the weights', async (t) => {
  const files = folder();
  files.delete('model.safetensors');
  files.set('model.safetensors.index.json', small('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'));
  for (const name of ['1', '2', 'consolidated']) files.set(`${name}.safetensors`, small(name));
  const { run } = await setUp(t, files);
  const names = readdirSync((await run()).path).filter((name) => name.endsWith('.safetensors'));
  t.same(names.sort(), ['1.safetensors', '2.safetensors']);
});

void t.test('two pulls at once end with the same files, and leave no part', async (t) => {
  const { cacheDir, run } = await setUp(t);
  for (const { path } of await Promise.all([run(), run()]))
    t.ok(readFileSync(join(path, 'model.safetensors')).equals(large));
  t.same(parts(cacheDir), []);
});
