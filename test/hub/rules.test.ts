/** Rules of the hub that need no server: access, names, the choice of files, refusals and retries. */
import { join } from 'node:path';
import t from 'tap';
import { chooseFiles, indexedFiles } from '../../src/convert/hub/choose.js';
import { PassingError, rejection, withRetries } from '../../src/convert/hub/faults.js';
import { hubAccess } from '../../src/convert/hub/repository.js';
import { parseHubName } from '../../src/util/hub-name.js';

void t.test('the token of `hf auth login` counts, and the variables name address and folders', async (t) => {
  const home = t.testdir({ token: 'hf_stored\n', other: 'hf_other' });
  t.match(hubAccess({ HF_HOME: home }), { token: 'hf_stored', endpoint: 'https://huggingface.co', offline: false });
  t.match(hubAccess({ HF_HOME: home, HF_TOKEN_PATH: join(home, 'other'), HF_ENDPOINT: 'http://mirror/hf/' }), {
    ...{ token: 'hf_other', endpoint: 'http://mirror/hf', cacheDir: join(home, 'hub') },
  });
  const none = { HF_HOME: '/none', HF_TOKEN: '', XDG_CACHE_HOME: '/x' };
  t.match(hubAccess({ ...none, HF_HUB_CACHE: '/h', HF_HUB_OFFLINE: '1' }), {
    ...{ token: null, cacheDir: '/h', offline: true },
  });
  t.equal(hubAccess({ XDG_CACHE_HOME: '/x' }).cacheDir, '/x/huggingface/hub');
  t.throws(() => hubAccess({ HF_ENDPOINT: 'mirror' }), { name: 'HubError', message: /HF_ENDPOINT must be an address/ });
  const message = 'HF_TOKEN must be ASCII without spaces';
  t.throws(() => hubAccess({ HF_TOKEN: 'secret\nsecond' }), { name: 'HubError', message }, 'which is not printed');
  t.equal(hubAccess({ HF_TOKEN: ' hf_x\n' }).token, 'hf_x');
});

void t.test('names of the hub, with revision and file', async (t) => {
  for (const [text, revision, file] of [
    ['a/b', null, null],
    ['a/b:Q4_K_M', null, 'Q4_K_M'],
    ['a/b@v1.0', 'v1.0', null],
    ['a/b@refs/pr/3:sub/x y.gguf', 'refs/pr/3', 'sub/x y.gguf'],
  ] as const)
    t.same(parseHubName(text), { repo: 'a/b', revision, file }, text);
  for (const text of ['a', 'a/b/c', 'a/..', '../b', 'a/b@', 'a/b@x/../y', 'a/b@/x', 'a/b:', 'a/b:c:d', 'a b/c'])
    t.equal(parseHubName(text), null, text);
});

const filesOf = (...paths: string[]) =>
  paths.map((path) => ({ path, size: 1, digest: { kind: 'git', hex: 'a'.repeat(40) } as const }));

const pathsOf = (files: readonly { readonly path: string }[] | null) => files?.map(({ path }) => path) ?? null;

void t.test('a folder has its small files, and weights alone or by an index', async (t) => {
  const chosen = (...paths: string[]) => {
    const { small, weights, gguf } = chooseFiles({ repo: 'a/b', revision: null, file: null }, filesOf(...paths));
    return [pathsOf(small), pathsOf(weights), gguf];
  };
  const others = ['.gitattributes', 'pytorch_model.bin', 'onnx/model.onnx', 'x.gguf', 'consolidated.safetensors'];
  const small = ['config.json', 'tokenizer.json', 'README.md'];
  t.same(chosen(...others, ...small, 'model.safetensors'), [small, ['model.safetensors'], null]);
  const index = 'model.safetensors.index.json';
  t.same(chosen(...small, index, 'model.safetensors'), [[...small, index], null, null]);

  const files = filesOf('model-1-of-2.safetensors', 'model-2-of-2.safetensors', 'model-3.safetensors');
  const indexed = (text: string) => indexedFiles('a/b', text, files);
  const weight_map = { a: files[0]?.path, b: files[1]?.path, c: files[0]?.path };
  t.same(indexed(JSON.stringify({ weight_map })), files.slice(0, 2));
  for (const [text, message] of [
    ['{"weight_map": {"a": "nothing.safetensors"}}', 'names nothing.safetensors, which the repository lacks'],
    ['{', 'is not JSON'],
    ['{}', 'has no weight_map'],
  ] as const)
    t.throws(() => indexed(text), { name: 'HubError', message: `a/b: ${index} ${message}` });
});

const SEVERAL = ['model-Q4_K_M.gguf', 'model-Q8_0.gguf', 'model-UD-Q4_K_M.gguf', 'sub/big-F16.gguf', 'mmproj-F16.gguf'];
const PARTS = [1, 2, 3].map((part) => `sub/m-Q4_K_M-0000${part}-of-00003.gguf`);
const SPLIT = [...PARTS, 'm-Q8_0.gguf'];

void t.test('a GGUF file is chosen by its path, by the end of its name, or as the only one', async (t) => {
  const choose = (files: readonly string[], file: string | null) =>
    chooseFiles({ repo: 'a/b', revision: null, file }, filesOf(...files));
  for (const [files, file, paths] of [
    [SEVERAL, 'model-Q8_0.gguf', ['model-Q8_0.gguf']],
    [SEVERAL, 'q8_0', ['model-Q8_0.gguf']],
    [SEVERAL, 'f16', ['sub/big-F16.gguf']],
    [SEVERAL, 'UD-Q4_K_M', ['model-UD-Q4_K_M.gguf']],
    [['only.gguf', 'mmproj.gguf', 'config.json'], null, ['only.gguf']],
    ...['Q4_K_M', 'm-Q4_K_M', ...PARTS].map((file) => [SPLIT, file, PARTS] as const),
    [SPLIT, 'Q8_0', ['m-Q8_0.gguf']],
  ] as const) {
    const { small, weights, gguf } = choose(files, file);
    t.same([small, pathsOf(weights), gguf], [[], paths, paths[0]], String(file));
  }
  const list = SEVERAL.slice(0, -1).join(', ');
  for (const [files, file, message] of [
    [SEVERAL, null, ` has several GGUF files; add one to the name, as in ORG/NAME:FILE: ${list}`],
    [SEVERAL, 'Q4_K_M', `:Q4_K_M fits several of the GGUF files ${list}`],
    [SEVERAL, 'Q5_0', `:Q5_0 fits none of the GGUF files ${list}`],
    [SPLIT, null, ` has several GGUF files; add one to the name, as in ORG/NAME:FILE: ${PARTS[0]}, m-Q8_0.gguf`],
    [PARTS.slice(1), 'Q4_K_M', ` lacks ${PARTS[0]}, one of the 3 parts of a GGUF model`],
    [['model.bin'], null, ' has no GGUF file, and no config.json with safetensors'],
    [['model.bin'], 'Q4', ':Q4 has no GGUF file'],
  ] as const)
    t.throws(() => choose(files, file), { name: 'HubError', message: `a/b${message}` });
});

void t.test('each refusal is one sentence', async (t) => {
  const gated = { 'x-error-code': 'GatedRepo' };
  for (const [status, headers, token, message] of [
    [
      ...([401, { 'x-error-message': 'Invalid username' }, null] as const),
      'http://hub has no public model a/b (401, Invalid username); a private one needs HF_TOKEN',
    ],
    [401, {}, 'x', 'http://hub rejects the token of HF_TOKEN (401)'],
    [
      ...([401, gated, null] as const),
      'a/b is gated (401): accept its conditions at http://hub/a/b, and set HF_TOKEN to a token of that account',
    ],
    [403, gated, 'x', 'a/b is gated (403): accept its conditions at http://hub/a/b with the account of HF_TOKEN'],
    [403, {}, 'x', 'HF_TOKEN gives no access to a/b at http://hub (403)'],
    [404, { 'x-error-code': 'RepoNotFound' }, null, 'http://hub has no model a/b (404)'],
    [404, { 'x-error-code': 'RevisionNotFound' }, null, 'a/b at http://hub has no revision v2 (404)'],
    [418, {}, null, 'http://hub answers 418 to a request for a/b'],
    [503, {}, null, 'http://hub answers 503'],
  ] as const) {
    const asked = { endpoint: 'http://hub', repo: 'a/b', revision: 'v2', token };
    t.equal(rejection(new Response(null, { status, headers }), asked).message, message);
  }
});

void t.test('a hub that is busy for a moment is asked again', async (t) => {
  const attempts = async (retryAfterS: number, failures: number) => {
    let count = 0;
    const attempt = (): Promise<number> =>
      count++ < failures ? Promise.reject(new PassingError('busy', retryAfterS)) : Promise.resolve(count);
    return withRetries(attempt, new AbortController().signal, [1, 1, 1]);
  };
  t.equal(await attempts(0, 3), 4);
  await t.rejects(attempts(0, 4), { name: 'HubError', message: 'busy, 4 times in a row' });
  await t.rejects(attempts(4000, 1), { name: 'HubError', message: 'busy, and asks to wait for 4000 s' });
});
