/** The file of --config: names, precedence, errors. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadOptions } from '../src/cli/options/config.js';

/** @returns the path of a file with this text */
const fileOf = (t: Test, text: string): string => join(t.testdir({ 'sortie.yaml': text }), 'sortie.yaml');

/** Checks the messages about files with these texts: none has a key. */
async function rejects(t: Test, cases: readonly (readonly [text: string, message: string | RegExp])[]): Promise<void> {
  for (const [text, message] of cases) {
    const config = fileOf(t, text);
    await t.test(text, async (t) => {
      const error = await loadOptions({ config }, {}).catch((thrown: unknown) => thrown as Error);
      t.equal('name' in error && error.name, 'OptionError');
      const shown = 'message' in error ? error.message.replace(config, 'sortie.yaml').replace('sortie.yaml: ', '') : '';
      if (typeof message === 'string') t.equal(shown, message);
      else t.match(shown, message);
      t.notMatch(shown, /sk-secret/);
    });
  }
}

void t.test('a flag wins over its variable, the variable over the file, the file over the default', async (t) => {
  const config = fileOf(t, 'port: 9000\nmax-queue: 64\nmax-running: 8\n');
  const options = await loadOptions({ config, port: '9002' }, { SORTIE_PORT: '9001', SORTIE_MAX_QUEUE: '65' });
  t.match(options, { port: 9002, maxQueue: 65, maxRunning: 8, keepAlive: 15 });
  t.equal((await loadOptions({}, { SORTIE_CONFIG: config })).port, 9000, 'the variable names the file too');
  t.equal((await loadOptions({}, { SORTIE_CONFIG: '', SORTIE_PORT: '' })).port, 8080, 'an empty variable is unset');
});

void t.test('YAML and JSON: texts, numbers, switches, lists; an empty entry counts as unset', async (t) => {
  const wanted = {
    kvMemory: 2 ** 29,
    logPrompts: true,
    mainMetrics: false,
    drainTimeout: 2.5,
    kernels: ['w8a8', 'int4'],
    corsOrigin: ['https://a.example', 'https://b.example'],
    port: 8080,
  };
  const yaml = `# comment
kv-memory: 512MiB
log-prompts: on
main-metrics: false
drain-timeout: 2.5
kernels: [w8a8, int4]
cors-origin:
  - https://a.example
  - https://b.example
port:
`;
  const json = { 'kv-memory': '512MiB', 'log-prompts': true, 'main-metrics': 'off', 'drain-timeout': 2.5 };
  const lists = { kernels: 'w8a8,int4', 'cors-origin': ['https://a.example', 'https://b.example'] };
  for (const text of [yaml, JSON.stringify({ ...json, ...lists })]) {
    t.match(await loadOptions({ config: fileOf(t, text) }, {}), wanted);
  }
  t.equal((await loadOptions({ config: fileOf(t, '# nothing\n') }, {})).port, 8080);
});

void t.test('an error names the file, the entry, the rule and the value, and never a key', async (t) => {
  await rejects(t, [
    ['prot: 1', 'prot is not an option of a configuration file; did you mean port?'],
    ['config: other.yaml', /config is not an option of a configuration file/],
    ['completely-different: 1', /see serve --help$/],
    ['port: 70000', 'port must be an integer from 0 to 65535, got "70000"'],
    ['port: {from: 1}', 'port must be a text, a number, true, false or a list of these'],
    ['api-key: [sk-secret, ""]', 'api-key must be a list separated by commas'],
    ['- port', 'sortie.yaml must hold options by name, such as "port: 8080"'],
    ['port: 1\nport: 2', 'sortie.yaml is neither YAML nor JSON at line 2, column 1 (DUPLICATE_KEY)'],
    ['api-key: "sk-secret', /^sortie.yaml is neither YAML nor JSON at line \d+, column \d+ \([A-Z_]+\)$/],
    ['port: 9\nops-port: 9', /^--ops-port must differ from --port/],
  ]);
  await t.rejects(loadOptions({ config: '/nowhere.yaml' }, {}), {
    name: 'OptionError',
    message: '--config must be a readable file, got "/nowhere.yaml" (it does not exist)',
  });
});

const BIG = 'upstreams:\n  big: {url: "http://a/v1"';

void t.test('upstreams and models: fields, defaults, names', async (t) => {
  const text = `port: 9000
upstreams:
  big:
    url: https://api.example.com/v1
    model: gpt-x
    key_env: BIG_KEY
    deadline_header: x-litellm-timeout
    extra_headers: {X-Team: blue}
  near: {url: "http://localhost:8081/v1", key_file: key.txt}
models:
  assistant: {upstream: big, latency_budget_ms: 3000, budget_on_miss: truncate, commit: sentence, net: land}
  plain: {upstream: big}
`;
  const { port, sections } = await loadOptions({ config: fileOf(t, text) }, {});
  t.equal(port, 9000);
  t.match(sections?.upstreams, [
    {
      name: 'big',
      url: 'https://api.example.com/v1',
      model: 'gpt-x',
      keyEnv: 'BIG_KEY',
      deadlineHeader: 'x-litellm-timeout',
      extraHeaders: { 'x-team': 'blue' },
    },
    { name: 'near', model: 'near', keyFile: 'key.txt', deadlineHeader: 'X-Latency-Budget-Ms' },
  ]);
  t.same(sections?.models, [
    { name: 'assistant', upstream: 'big', latencyBudgetMs: 3000, onMiss: 'truncate', commit: 'sentence', net: 'land' },
    { name: 'plain', upstream: 'big', latencyBudgetMs: null, onMiss: null, commit: null, net: null },
    { name: 'near', upstream: 'near', latencyBudgetMs: null, onMiss: null, commit: null, net: null },
  ]);
  t.notOk('sections' in (await loadOptions({ config: fileOf(t, 'port: 1') }, {})));
});

void t.test('an error of upstreams and models names the entry, the rule and the value, and never a key', async (t) => {
  await rejects(t, [
    ['upstreams: [big]', 'upstreams must hold entries by name'],
    [
      'upstreams: {"a b": {}}',
      'a name in upstreams must be a name of at most 128 printable characters without a space, got "a b"',
    ],
    ['upstreams: {big: http://a}', 'upstreams.big must hold fields, such as url'],
    ['upstreams: {big: {}}', 'upstreams.big.url is required'],
    [
      'upstreams: {big: {url: "ftp://a"}}',
      /^upstreams.big.url must be a URL such as \S+, with no name and no password, got "ftp:\/\/a"$/,
    ],
    ['upstreams: {big: {url: "http://n:p@a"}}', /with no name and no password/],
    [`${BIG}, modle: x}`, 'upstreams.big.modle is not a field; did you mean model?'],
    [`${BIG}, key_env: A, key_file: B}`, 'upstreams.big must have key_env or key_file, got both'],
    [`${BIG}, deadline_header: "a b"}`, 'upstreams.big.deadline_header must be the name of a header, got "a b"'],
    [
      `${BIG}, extra_headers: {Host: x}}`,
      'upstreams.big.extra_headers.Host must not be a header that the gateway sets itself',
    ],
    [
      `${BIG}, extra_headers: {X-A: "sk-secret\\n"}}`,
      'upstreams.big.extra_headers.X-A must be a text of printable ASCII characters',
    ],
    [`${BIG}}\nmodels: {a: {}}`, 'models.a.upstream is required'],
    [`${BIG}}\nmodels: {a: {upstream: bag}}`, 'models.a.upstream must be one of upstreams (big), got "bag"'],
    [
      `${BIG}}\nmodels: {a: {upstream: big, latency_budget_ms: 0}}`,
      'models.a.latency_budget_ms must be an integer from 1 to 86400000, got "0"',
    ],
    [
      `${BIG}}\n  b2: {url: "http://b"}\nmodels: {b2: {upstream: big}}`,
      'models.b2 must not have the name of an upstream that has no model of its own',
    ],
  ]);
});
