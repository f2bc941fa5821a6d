/** Downloads from a server that plays the hub: redirects, ranges, interruptions, refusals. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { hubAccess } from '../../src/convert/hub/repository.js';
import { pull, type PullOptions } from '../../src/convert/hub/pull.js';
import { type HubName, parseHubName } from '../../src/util/hub-name.js';
import { type Behaviour, COMMIT, fakeHub, type FakeHub } from '../fakes/hub.js';

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
const ggufs = (...names: string[]): Map<string, Buffer> => new Map(names.map((name) => [name, Buffer.from(name)]));

const NAME: HubName = { repo: 'tiny/model', revision: null, file: null };

interface Pull {
  readonly hub: FakeHub;
  readonly cacheDir: string;
  readonly run: (
    name?: Partial<HubName>,
    options?: Partial<PullOptions>,
    env?: Record<string, string>,
  ) => ReturnType<typeof pull>;
}

async function setUp(t: Test, files = folder(), behaviour: Behaviour = {}): Promise<Pull> {
  const { cdn } = behaviour;
  // Small files come as they are.
  const ofLarge: Behaviour['cdn'] = (request, response, bytes) =>
    bytes.length === large.length && cdn?.(request, response, bytes) === true;
  const hub = await fakeHub(t, files, { ...behaviour, cdn: ofLarge });
  const home = t.testdir({});
  const run: Pull['run'] = (name = {}, options = {}, env = {}) =>
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

/** The parts of unfinished downloads. */
function parts(cacheDir: string): string[] {
  const blobs = join(cacheDir, 'models--tiny--model', 'blobs');
  return existsSync(blobs) ? readdirSync(blobs).filter((name) => name.endsWith('-part')) : [];
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

void t.test('the token of `hf auth login` counts, and the variables name address and folders', (t) => {
  const home = t.testdir({ token: 'hf_stored\n', other: 'hf_other' });
  t.match(hubAccess({ HF_HOME: home }), { token: 'hf_stored', endpoint: 'https://huggingface.co', offline: false });
  t.match(hubAccess({ HF_HOME: home, HF_TOKEN_PATH: join(home, 'other'), HF_ENDPOINT: 'http://mirror/hf/' }), {
    ...{ token: 'hf_other', endpoint: 'http://mirror/hf', cacheDir: join(home, 'hub') },
  });
  t.match(
    hubAccess({ HF_HOME: '/none', HF_TOKEN: '', XDG_CACHE_HOME: '/x', HF_HUB_CACHE: '/h', HF_HUB_OFFLINE: '1' }),
    {
      ...{ token: null, cacheDir: '/h', offline: true },
    },
  );
  t.equal(hubAccess({ XDG_CACHE_HOME: '/x' }).cacheDir, '/x/huggingface/hub');
  t.throws(() => hubAccess({ HF_ENDPOINT: 'mirror' }), { name: 'HubError', message: /HF_ENDPOINT must be an address/ });
  const message = 'HF_TOKEN must be ASCII without spaces';
  t.throws(() => hubAccess({ HF_TOKEN: 'secret\nsecond' }), { name: 'HubError', message }, 'which is not printed');
  t.equal(hubAccess({ HF_TOKEN: ' hf_x\n' }).token, 'hf_x');
  t.end();
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

void t.test('a server without ranges costs the bytes, and no more', async (t) => {
  const { cacheDir, run } = await setUp(t, folder(), { wholeFiles: true });
  const blobs = join(cacheDir, 'models--tiny--model', 'blobs');
  await mkdir(blobs, { recursive: true });
  const part = join(blobs, `${createHash('sha256').update(large).digest('hex')}.sortie-part`);
  writeFileSync(part, large.subarray(0, 1234));
  const { path } = await run();
  t.ok((await readFile(join(path, 'model.safetensors'))).equals(large));
  writeFileSync(join(blobs, 'other'), '');
});

void t.test('a damaged file is one error, and leaves nothing that the next call would trust', async (t) => {
  let isDamaged = true;
  const { cacheDir, run } = await setUp(t, folder(), {
    cdn: (_request, response, bytes) => {
      if (!isDamaged) return false;
      const wrong = Buffer.from(bytes);
      wrong[1000] = 255;
      response.writeHead(200, { 'content-length': wrong.length }).end(wrong);
      return true;
    },
  });
  await t.rejects(run(), {
    name: 'HubError',
    message: /^tiny\/model: model\.safetensors is damaged: it has the checksum/,
  });
  t.same(parts(cacheDir), []);
  isDamaged = false;
  await run();
});

void t.test('each refusal is one sentence', async (t) => {
  const cases: [status: number, headers: Record<string, string>, env: Record<string, string>, message: RegExp][] = [
    [
      401,
      { 'x-error-message': 'Invalid username' },
      {},
      /has no public model tiny\/model \(401, Invalid username\); a private one needs HF_TOKEN$/,
    ],
    [401, {}, { HF_TOKEN: 'x' }, /rejects the token of HF_TOKEN \(401\)$/],
    [
      401,
      { 'x-error-code': 'GatedRepo' },
      {},
      /^tiny\/model is gated \(401\): accept its conditions at http.*\/tiny\/model, and set HF_TOKEN/,
    ],
    [403, { 'x-error-code': 'GatedRepo' }, { HF_TOKEN: 'x' }, /is gated \(403\): .* with the account of HF_TOKEN$/],
    [403, {}, { HF_TOKEN: 'x' }, /^HF_TOKEN gives no access to tiny\/model/],
    [404, { 'x-error-code': 'RepoNotFound' }, {}, /has no model tiny\/model \(404\)$/],
    [418, {}, {}, /answers 418 to a request for tiny\/model$/],
    [503, {}, {}, /answers 503, 4 times in a row$/],
    [429, { 'retry-after': '4000' }, {}, /answers 429, and asks to wait for 4000 s$/],
  ];
  for (const [status, headers, env, message] of cases)
    for (const stage of ['api', 'resolve'])
      await t.test(`${status} ${message.source} of ${stage}`, async (t) => {
        const { run } = await setUp(t, folder(), answering(stage, status, headers, '<html>'));
        await t.rejects(run({}, {}, env), { name: 'HubError', message });
      });
});

void t.test('a hub that is busy for a moment is asked again', async (t) => {
  let failures = 0;
  const { run } = await setUp(t, folder(), {
    hub: (_request, response) => {
      if (failures === 2) return false;
      failures += 1;
      response.writeHead(429, { 'retry-after': '0' }).end();
      return true;
    },
  });
  await run();
  t.equal(failures, 2);
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

void t.test('the index names the weights', async (t) => {
  const files = folder();
  files.delete('model.safetensors');
  const index = {
    weight_map: { a: 'model-1-of-2.safetensors', b: 'model-2-of-2.safetensors', c: 'model-1-of-2.safetensors' },
  };
  files.set('model.safetensors.index.json', small(JSON.stringify(index)));
  files.set('model-1-of-2.safetensors', large);
  files.set('model-2-of-2.safetensors', small('2'));
  files.set('consolidated.safetensors', Buffer.alloc(9000));
  const { run } = await setUp(t, files);
  const names = readdirSync((await run()).path).filter((name) => name.endsWith('.safetensors'));
  t.same(names.sort(), ['model-1-of-2.safetensors', 'model-2-of-2.safetensors']);
  files.set('model.safetensors.index.json', small('{"weight_map": {"a": "nothing.safetensors"}}'));
  await t.rejects(run(), { message: /index\.json names nothing\.safetensors, which the repository lacks/ });
  files.set('model.safetensors.index.json', small('{'));
  await t.rejects(run(), { message: /index\.json is not JSON/ });
});

void t.test('a GGUF file is chosen by its path, by the end of its name, or as the only one', async (t) => {
  const several = [
    'model-Q4_K_M.gguf',
    'model-Q8_0.gguf',
    'model-UD-Q4_K_M.gguf',
    'sub/big-F16.gguf',
    'mmproj-F16.gguf',
  ];
  const { run } = await setUp(t, ggufs(...several));
  for (const [file, path] of [
    ['model-Q8_0.gguf', 'model-Q8_0.gguf'],
    ['q8_0', 'model-Q8_0.gguf'],
    ['f16', 'sub/big-F16.gguf'],
    ['UD-Q4_K_M', 'model-UD-Q4_K_M.gguf'],
  ] as const) {
    const pulled = await run({ file });
    t.ok(pulled.path.endsWith(path), file);
    t.equal(readFileSync(pulled.path, 'utf8'), path);
  }
  for (const [file, message] of [
    [null, /^tiny\/model has several GGUF files; add one to the name, as in ORG\/NAME:FILE: model-Q4_K_M\.gguf, /],
    ['Q4_K_M', /^tiny\/model:Q4_K_M fits several of the GGUF files /],
    ['Q5_0', /^tiny\/model:Q5_0 fits none of the GGUF files model-Q4_K_M\.gguf, /],
  ] as const)
    await t.rejects(run({ file }), { name: 'HubError', message });
});

void t.test('the parts of a split GGUF model come together, and a missing one is named', async (t) => {
  const parts = [1, 2, 3].map((part) => `sub/m-Q4_K_M-0000${part}-of-00003.gguf`);
  const { hub, run } = await setUp(t, ggufs(...parts, 'm-Q8_0.gguf'));
  for (const file of ['Q4_K_M', 'm-Q4_K_M', ...parts]) {
    const { path } = await run({ file });
    t.ok(path.endsWith('/sub/m-Q4_K_M-00001-of-00003.gguf'), file);
    t.same(
      parts.map((part) => readFileSync(join(path, '..', '..', part), 'utf8')),
      parts,
    );
  }
  t.ok((await run({ file: 'Q8_0' })).path.endsWith('/m-Q8_0.gguf'));
  await t.rejects(run(), { message: /has several GGUF files; .*: sub\/m-Q4_K_M-00001-of-00003\.gguf, m-Q8_0\.gguf$/ });
  hub.files.delete('sub/m-Q4_K_M-00002-of-00003.gguf');
  await t.rejects(run({ file: 'Q4_K_M' }), {
    name: 'HubError',
    message: 'tiny/model lacks sub/m-Q4_K_M-00002-of-00003.gguf, one of the 3 parts of a GGUF model',
  });
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

void t.test('names of the hub, with revision and file', (t) => {
  for (const [text, ...parts] of [
    ['a/b', null, null],
    ['a/b:Q4_K_M', null, 'Q4_K_M'],
    ['a/b@v1.0', 'v1.0', null],
    ['a/b@refs/pr/3:sub/x y.gguf', 'refs/pr/3', 'sub/x y.gguf'],
  ] as const)
    t.same(parseHubName(text), { repo: 'a/b', revision: parts[0], file: parts[1] }, text);
  for (const text of ['a', 'a/b/c', 'a/..', '../b', 'a/b@', 'a/b@x/../y', 'a/b@/x', 'a/b:', 'a/b:c:d', 'a b/c'])
    t.equal(parseHubName(text), null, text);
  t.end();
});

void t.test('pulls at once end with the same files', async (t) => {
  const { cacheDir, run } = await setUp(t, folder(), {
    cdn: (request, response, bytes) => {
      // Slowly, so that the second one finds a growing part.
      const from = fromOf(request);
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
      let at = from;
      const timer = setInterval(() => {
        response.write(bytes.subarray(at, (at += 20_000)));
        if (at < bytes.length) return;
        clearInterval(timer);
        response.end();
      }, 2);
      return true;
    },
  });
  const runs = Array.from({ length: 20 }, async (_, i) => {
    await sleep(2 * i);
    const { path } = await run();
    // Each one is complete when its pull ends.
    t.ok((await readFile(join(path, 'model.safetensors'))).equals(large));
  });
  await Promise.all(runs);
  t.same(parts(cacheDir), []);
});

void t.test('one GGUF file needs no name, and empty repositories are named', async (t) => {
  const one = await setUp(t, ggufs('only.gguf', 'mmproj.gguf', 'config.json'));
  t.ok((await one.run()).path.endsWith('/only.gguf'));
  const empty = await setUp(t, ggufs('model.bin'));
  await t.rejects(empty.run(), { message: 'tiny/model has no GGUF file, and no config.json with safetensors' });
  await t.rejects(empty.run({ file: 'Q4' }), { message: 'tiny/model:Q4 has no GGUF file' });
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

void t.test('a file that is longer than the hub says, or in another encoding, is an error', async (t) => {
  for (const [headers, body, message] of [
    [{}, Buffer.concat([large, Buffer.from('x')]), /is damaged: it is longer than 300000 bytes/],
    [{ 'content-encoding': 'gzip' }, 'no gzip', /the server sent it as "gzip", and identity was asked for/],
  ] as const) {
    const { run } = await setUp(t, folder(), {
      cdn: (_request, response) => {
        response.writeHead(200, headers).end(body);
        return true;
      },
    });
    await t.rejects(run(), { name: 'HubError', message });
  }
});
