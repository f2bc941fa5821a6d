import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  environmentName,
  helpText,
  OptionError,
  type OptionSpec,
  packageRoot,
  resolveOptions,
  SERVE_OPTIONS,
  unknownVariables,
} from '../src/cli/options/config.js';
import { loadApiKeys, openKey } from '../src/gateway/http/keys.js';
import { main } from './deploy/helper.js';

function sortie(args: string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: { ...process.env, ...env } });
}

void t.test('a flag wins over the environment, which wins over the default', (t) => {
  t.equal(resolveOptions({}, {}).port, 8080);
  t.equal(resolveOptions({}, { SORTIE_PORT: '9000' }).port, 9000);
  t.equal(resolveOptions({ port: '9001' }, { SORTIE_PORT: '9000' }).port, 9001);
  t.equal(resolveOptions({}, { SORTIE_PORT: '' }).port, 8080, 'an empty variable counts as unset');
  t.end();
});

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

void t.test('sizes, lists, switches and times', (t) => {
  const options = resolveOptions(
    {
      kvMemory: '1.5GiB',
      maxBody: '1MB',
      corsOrigin: 'https://a, https://b',
      logPrompts: 'on',
      drainTimeout: '2.5s',
    },
    { SORTIE_KERNELS: 'int4,w8a8' },
  );
  t.match(options, {
    kvMemory: 1.5 * 2 ** 30,
    maxBody: 1_000_000,
    corsOrigin: ['https://a', 'https://b'],
    logPrompts: true,
    drainTimeout: 2.5,
    kernels: ['int4', 'w8a8'],
  });
  t.same(resolveOptions({ kernels: 'w8a8,int4,w8a8' }, {}).kernels, ['w8a8', 'int4'], 'each kernel is loaded once');
  t.end();
});

void t.test('sizes have every unit, and a range includes both ends', (t) => {
  const units = { '': 1, B: 1, K: 2 ** 10, KiB: 2 ** 10, kB: 1e3, M: 2 ** 20, MiB: 2 ** 20, MB: 1e6 };
  const large = { G: 2 ** 30, gib: 2 ** 30, GB: 1e9, T: 2 ** 40, TiB: 2 ** 40, TB: 1e12 };
  for (const [unit, bytes] of Object.entries({ ...units, ...large }))
    t.equal(resolveOptions({ maxBody: `4096${unit}` }, {}).maxBody, 4096 * bytes, unit);
  t.equal(resolveOptions({ kvMemory: '1 MiB' }, {}).kvMemory, 2 ** 20, 'the smallest accepted value');
  for (const port of [0, 65535]) t.equal(resolveOptions({ port: String(port) }, {}).port, port);
  for (const wait of [0.1, 3600]) t.equal(resolveOptions({ stallTimeout: String(wait) }, {}).stallTimeout, wait);
  t.equal(resolveOptions({ modelName: 'm'.repeat(128) }, {}).modelName[0]?.length, 128);
  t.strictSame(resolveOptions({ modelName: 'a, org/b' }, {}).modelName, ['a', 'org/b']);
  t.end();
});

void t.test('origins have the form that browsers write', (t) => {
  const origins = ['*', 'https://app.example', 'http://localhost:3000', 'http://[::1]:8080', 'tauri://localhost'];
  t.same(resolveOptions({ corsOrigin: origins.join(',') }, {}).corsOrigin, origins);
  t.end();
});

void t.test('the error on an invalid value names the option, the rule and the value', async (t) => {
  const wrong: [Record<string, string>, Record<string, string>, RegExp][] = [
    [{ port: '70000' }, {}, /^--port must be an integer from 0 to 65535, got "70000"$/],
    [{ port: '80x' }, {}, /--port/],
    [{}, { SORTIE_THREADS: '0' }, /^SORTIE_THREADS must be an integer from 1 to 1024, got "0"$/],
    [{ kvMemory: 'lots' }, {}, /^--kv-memory must be a size .* got "lots"$/],
    [{ kvMemory: '1' }, {}, /at least 1MiB/],
    [{ device: 'tpu' }, {}, /^--device must be cpu, webgpu, cuda, .* got "tpu"$/],
    [{ device: 'cuda:0,cuda:1' }, {}, /^--device must be .* a card such as cuda:1, got "cuda:0,cuda:1"$/],
    [{ device: 'cuda:' }, {}, /--device/],
    [{ device: 'cpu:0' }, {}, /--device/],
    [{ kernels: 'int3' }, {}, /int4, w8a8/],
    [{ modelName: 'a:b' }, {}, /--model-name/],
    [{ modelName: 'a,b,a' }, {}, /--model-name must be different names/],
    [{ drainTimeout: '-1' }, {}, /seconds from 0/],
    [{ logPrompts: 'maybe' }, {}, /on or off/],
    [{ trustedProxies: 'proxy.example' }, {}, /^--trusted-proxies must be a list of IP .* got "proxy.example"$/],
    [{ trustedProxies: '10.0.0.0/33' }, {}, /--trusted-proxies/],
    // A property of every JavaScript object is not a switch.
    [{ logPrompts: 'constructor' }, {}, /on or off/],
    [{ apiKey: 'a,,b' }, {}, /list/],
    [{ corsOrigin: 'https://app.example/' }, {}, /^--cors-origin must be a list of origins/],
    [{ corsOrigin: 'app.example' }, {}, /--cors-origin/],
    [{ corsOrigin: 'localhost:3000' }, {}, /--cors-origin/],
    [{ corsOrigin: 'https://app.example:443' }, {}, /--cors-origin/],
    [{ corsOrigin: '*, https://app.example/x' }, {}, /--cors-origin/],
    [{ logLevel: 'loud' }, {}, /one of trace/],
  ];
  for (const [flags, env, message] of wrong)
    await t.test(JSON.stringify({ ...flags, ...env }), async (t) => {
      t.throws(() => resolveOptions(flags, env), { name: 'OptionError', message });
    });
});

void t.test('a device may have a number', (t) => {
  for (const [text, kind, index] of [
    ['cpu', 'cpu', 0],
    ['webgpu', 'webgpu', 0],
    ['webgpu:1', 'webgpu', 1],
    ['cuda', 'cuda', 0],
    ['cuda:3', 'cuda', 3],
  ] as const)
    t.same(resolveOptions({ device: text }, {}).device, { kind, index }, text);
  t.end();
});

void t.test('the error on an invalid value names the flag or the variable', (t) => {
  const wrong = {
    ...{ port: '65536', threads: '0', kvMemory: '1KiB', drainTimeout: '-1', device: 'tpu', kernels: 'int3' },
  };
  for (const [name, value] of Object.entries(wrong)) {
    const { flag } = SERVE_OPTIONS[name as keyof typeof wrong];
    for (const [flags, env, source] of [
      [{ [name]: value }, {}, `--${flag}`],
      [{}, { [environmentName(flag)]: value }, environmentName(flag)],
    ] as const)
      t.throws(() => resolveOptions(flags, env), { message: new RegExp(`^${source} must be .*, got "${value}"$`) });
  }
  t.end();
});

void t.test('the operations port differs from the main port, unless both are 0', (t) => {
  for (const [flags, env] of [
    [{ opsPort: '8080' }, {}],
    [{ port: '9000' }, { SORTIE_OPS_PORT: '9000' }],
  ] as const) {
    t.throws(() => resolveOptions(flags, env), { message: /^--ops-port must differ from --port, got "\d+"/ });
  }
  t.equal(resolveOptions({ port: '0', opsPort: '0' }, {}).opsPort, 0);
  t.end();
});

void t.test('the error on an invalid list of API keys hides the list, because errors reach logs', (t) => {
  const wrong: [Record<string, string>, Record<string, string>, RegExp][] = [
    [{ apiKey: 'sk-one,,sk-two' }, {}, /^--api-key must be a list separated by commas$/],
    [{}, { SORTIE_API_KEY: 'sk-one,' }, /^SORTIE_API_KEY must be a list separated by commas$/],
  ];
  for (const [flags, env, message] of wrong)
    t.throws(() => resolveOptions(flags, env), { name: 'OptionError', message });
  t.end();
});

void t.test('every option has a unique flag, an environment variable and its default in --help', (t) => {
  const specs = Object.entries(SERVE_OPTIONS);
  t.equal(new Set(specs.map(([, { flag }]) => flag)).size, specs.length);
  for (const [key, spec] of specs) {
    const found = spec.flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    t.equal(found, key, 'key and flag agree');
    t.match(helpText(spec), environmentName(spec.flag));
  }
  const help = sortie(['serve', '--help']);
  t.equal(help.status, 0);
  for (const [, { flag }] of specs) t.match(help.stdout, new RegExp(`--${flag} [<[]`));
  t.end();
});

void t.test('every option is in docs/configuration.md, whose rule names its variable', (t) => {
  const text = readFileSync(join(packageRoot, 'docs', 'configuration.md'), 'utf8');
  for (const { flag } of Object.values(SERVE_OPTIONS)) t.ok(text.includes(`| \`--${flag}\` |`), `--${flag}`);
  t.match(text, '(`--max-queue 64`), an environment variable (`SORTIE_MAX_QUEUE=64`)');
  for (const { flag } of Object.values(SERVE_OPTIONS))
    t.equal(environmentName(flag), `SORTIE_${flag.toUpperCase().replaceAll('-', '_')}`);
  t.end();
});

void t.test('wrong usage exits with code 2, a missing model with code 1', (t) => {
  const wrong = sortie(['serve', '--port', '99999']);
  t.equal(wrong.status, 2);
  t.match(wrong.stderr, '--port must be an integer from 0 to 65535, got "99999"');
  t.equal(sortie(['serve'], { SORTIE_PORT: 'x' }).status, 2);
  t.equal(sortie(['serve', '--nonsense']).status, 2);
  t.equal(sortie(['nonsense']).status, 2);
  const missing = sortie(['serve', '--model', 'no/such/folder']);
  t.equal(missing.status, 1);
  t.match(missing.stderr, 'no/such/folder');
  t.notMatch(missing.stderr, /at .*\.js:\d+/, 'no stack');
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
