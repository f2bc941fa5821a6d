import { join } from 'node:path';
import t from 'tap';
import {
  environmentName,
  helpText,
  OptionError,
  type OptionSpec,
  resolveOptions,
  SERVE_OPTIONS,
  unknownVariables,
} from '../src/cli/options/config.js';
import { loadApiKeys, openKey } from '../src/gateway/http/keys.js';

void t.test('a misspelt variable gets the nearest one; variables of Kubernetes and of the tests are ignored', (t) => {
  const names = ['SORTIE_PROT', 'SORTIE_API_KEYS', 'SORTIE_NONSENSE_OF_ANY_KIND', 'SORTIE_HOST', 'PORT'];
  const others = ['SORTIE_SERVICE_HOST', 'SORTIE_PORT_80_TCP', 'SORTIE_TEST_MODEL', 'SORTIE_MAIN'];
  const env = Object.fromEntries([...names, ...others].map((name) => [name, '1']));
  t.same(unknownVariables(env), [
    { variable: 'SORTIE_PROT', suggestion: 'SORTIE_PORT' },
    { variable: 'SORTIE_API_KEYS', suggestion: 'SORTIE_API_KEY' },
    { variable: 'SORTIE_NONSENSE_OF_ANY_KIND', suggestion: null },
  ]);
  t.end();
});

void t.test('texts become sizes, lists, switches, times, origins and devices', async (t) => {
  const units = { '': 1, B: 1, K: 2 ** 10, KiB: 2 ** 10, kB: 1e3, M: 2 ** 20, MiB: 2 ** 20, MB: 1e6 };
  const large = { G: 2 ** 30, gib: 2 ** 30, GB: 1e9, T: 2 ** 40, TiB: 2 ** 40, TB: 1e12 };
  const origins = ['*', 'https://app.example', 'http://localhost:3000', 'http://[::1]:8080', 'tauri://localhost'];
  const cases: [name: keyof typeof SERVE_OPTIONS, text: string, value: unknown][] = [
    ...Object.entries({ ...units, ...large }).map(([unit, bytes]): (typeof cases)[number] => [
      ...(['maxBody', `4096${unit}`, 4096 * bytes] as const),
    ]),
    ['kvMemory', '1.5GiB', 1.5 * 2 ** 30],
    ['kvMemory', '1 MiB', 2 ** 20],
    ['port', '0', 0],
    ['port', '65535', 65535],
    ['minAccuracy', '0', 0],
    ['minAccuracy', '1', 1],
    ['stallTimeout', '0.1', 0.1],
    ['stallTimeout', '3600', 3600],
    ['drainTimeout', '2.5s', 2.5],
    ['logPrompts', 'on', true],
    ['modelName', 'm'.repeat(128), ['m'.repeat(128)]],
    ['modelName', 'a, org/b', ['a', 'org/b']],
    ['kernels', 'w8a8,int4,w8a8', ['w8a8', 'int4']],
    ['corsOrigin', origins.join(', '), origins],
    ['device', 'cpu', { kind: 'cpu', index: 0 }],
    ['device', 'webgpu:1', { kind: 'webgpu', index: 1 }],
    ['device', 'cuda', { kind: 'cuda', index: 0 }],
    ['device', 'cuda:3', { kind: 'cuda', index: 3 }],
  ];
  for (const [name, text, value] of cases)
    t.strictSame(resolveOptions({ [name]: text }, {})[name], value, `${name} ${text}`);
});

void t.test('the error on an invalid value names the option, the rule and the value', async (t) => {
  const wrong: [Record<string, string>, Record<string, string>, RegExp][] = [
    [{ port: '70000' }, {}, /^--port must be an integer from 0 to 65535, got "70000"$/],
    [{ port: '80x' }, {}, /--port/],
    [{}, { SORTIE_THREADS: '0' }, /^SORTIE_THREADS must be an integer from 1 to 1024, got "0"$/],
    [{ kvMemory: 'lots' }, {}, /^--kv-memory must be a size .* got "lots"$/],
    [{ kvMemory: '1KiB' }, {}, /at least 1MiB/],
    [{ device: 'tpu' }, {}, /^--device must be cpu, webgpu, cuda, .* got "tpu"$/],
    [{}, { SORTIE_DEVICE: 'cuda:0,cuda:1' }, /^SORTIE_DEVICE must be .* a card such as cuda:1, got "cuda:0,cuda:1"$/],
    [{ device: 'cuda:' }, {}, /--device/],
    [{ device: 'cpu:0' }, {}, /--device/],
    [{}, { SORTIE_KERNELS: 'int3' }, /^SORTIE_KERNELS must be .*int4, w8a8.*, got "int3"$/],
    [{ modelName: 'a:b' }, {}, /--model-name/],
    [{ modelName: 'a,b,a' }, {}, /--model-name must be different names/],
    [{}, { SORTIE_DRAIN_TIMEOUT: '-1' }, /^SORTIE_DRAIN_TIMEOUT must be .*seconds from 0.*, got "-1"$/],
    [{ logPrompts: 'maybe' }, {}, /on or off/],
    [{ trustedProxies: 'proxy.example' }, {}, /^--trusted-proxies must be a list of IP .* got "proxy.example"$/],
    [{ trustedProxies: '10.0.0.0/33' }, {}, /--trusted-proxies/],
    // A property of every JavaScript object is not a switch.
    [{ logPrompts: 'constructor' }, {}, /on or off/],
    // Errors reach logs, so a list of keys stays hidden.
    [{ apiKey: 'sk-one,,sk-two' }, {}, /^--api-key must be a list separated by commas$/],
    [{}, { SORTIE_API_KEY: 'sk-one,' }, /^SORTIE_API_KEY must be a list separated by commas$/],
    [{ opsPort: '8080' }, {}, /^--ops-port must differ from --port, got "8080"/],
    [{ port: '9000' }, { SORTIE_OPS_PORT: '9000' }, /^--ops-port must differ from --port, got "9000"/],
    [{ minAccuracy: '1.1' }, {}, /^--min-accuracy must be a number from 0 to 1, got "1.1"$/],
    [{ defaultBudget: '-1' }, {}, /--default-budget must be an integer/],
    [{ onMiss: 'wait' }, {}, /--on-miss must be one of land, continue, truncate, reject/],
    [{ prefixReuse: 'on' }, {}, /--prefix-reuse must be one of off, key, all, got "on"/],
    [{ corsOrigin: 'https://app.example/' }, {}, /^--cors-origin must be a list of origins/],
    [{ corsOrigin: 'app.example' }, {}, /--cors-origin/],
    [{ corsOrigin: '*, https://app.example/x' }, {}, /--cors-origin/],
    [{ logLevel: 'loud' }, {}, /one of trace/],
  ];
  for (const [flags, env, message] of wrong)
    await t.test(JSON.stringify({ ...flags, ...env }), async (t) => {
      t.throws(() => resolveOptions(flags, env), { name: 'OptionError', message });
    });
  t.equal(resolveOptions({ port: '0', opsPort: '0' }, {}).opsPort, 0, 'two free ports');
});

void t.test('every option has a unique flag, an environment variable and its default in --help', (t) => {
  const specs = Object.entries(SERVE_OPTIONS);
  t.equal(new Set(specs.map(([, { flag }]) => flag)).size, specs.length);
  for (const [key, spec] of specs) {
    const found = spec.flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    t.equal(found, key, 'key and flag agree');
    t.equal(environmentName(spec.flag), `SORTIE_${spec.flag.toUpperCase().replaceAll('-', '_')}`);
    t.match(helpText(spec), environmentName(spec.flag));
  }
  t.end();
});

void t.test('API keys come from the option and the file', (t) => {
  const dir = t.testdir({ keys: '# staff\nalpha\n\n beta \n', none: '# nothing\n' });
  t.same(loadApiKeys({ apiKey: ['gamma'], apiKeyFile: join(dir, 'keys') }), ['gamma', 'alpha', 'beta'].map(openKey));
  t.throws(() => loadApiKeys({ apiKey: [], apiKeyFile: join(dir, 'none') }), OptionError);
  for (const key of ['two words', 'caf\u00e9']) {
    const message = '--api-key: key 2 must be one word of printable ASCII characters';
    t.throws(() => loadApiKeys({ apiKey: ['gamma', key], apiKeyFile: null }), { name: 'OptionError', message });
  }
  t.throws(() => loadApiKeys({ apiKey: [], apiKeyFile: join(dir, 'absent') }), /ENOENT/);
  t.end();
});

void t.test('every option with a rule rejects what is no number, name or list', (t) => {
  const ruled = (Object.values(SERVE_OPTIONS) as OptionSpec<unknown>[]).filter(({ kind }) => kind.rule !== 'a text');
  t.ok(ruled.length > 20);
  for (const { flag, kind } of ruled) t.equal(kind.parse('-1, ,'), undefined, flag);
  t.end();
});
