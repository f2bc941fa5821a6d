/** The file of --config: names, precedence, errors. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadOptions } from '../src/config.js';
import { main } from './deploy/helper.js';

/** @returns the path of a file with this text */
const fileOf = (t: Test, text: string): string => join(t.testdir({ 'sortie.yaml': text }), 'sortie.yaml');

void t.test('a flag wins over its variable, the variable over the file, the file over the default', async (t) => {
  const config = fileOf(t, 'port: 9000\nmax-queue: 64\nmax-running: 8\n');
  const options = await loadOptions({ config, port: '9002' }, { SORTIE_PORT: '9001', SORTIE_MAX_QUEUE: '65' });
  t.match(options, { port: 9002, maxQueue: 65, maxRunning: 8, keepAlive: 15 });
  t.equal((await loadOptions({}, { SORTIE_CONFIG: config })).port, 9000, 'the variable names the file too');
  t.equal((await loadOptions({}, { SORTIE_CONFIG: '' })).port, 8080, 'an empty variable names none');
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
  for (const [text, message] of [
    ['prot: 1', 'sortie.yaml: prot is not an option of a configuration file; did you mean port?'],
    ['max_queue: 1', 'sortie.yaml: max_queue is not an option of a configuration file; did you mean max-queue?'],
    ['config: other.yaml', /config is not an option of a configuration file/],
    ['completely-different: 1', /see serve --help$/],
    ['port: 70000', 'sortie.yaml: port must be an integer from 0 to 65535, got "70000"'],
    ['port: {from: 1}', 'sortie.yaml: port must be a text, a number, true, false or a list of these'],
    ['api-key: [sk-secret, ""]', 'sortie.yaml: api-key must be a list separated by commas'],
    ['- port', 'sortie.yaml must hold options by name, such as "port: 8080"'],
    ['port: 1\nport: 2', 'sortie.yaml is neither YAML nor JSON at line 2, column 1 (DUPLICATE_KEY)'],
    ['api-key: "sk-secret', /^\S+sortie.yaml is neither YAML nor JSON at line \d+, column \d+ \([A-Z_]+\)$/],
    ['port: 9\nops-port: 9', /^--ops-port must differ from --port/],
  ] as const) {
    const config = fileOf(t, text);
    await t.test(text, async (t) => {
      const error = await loadOptions({ config }, {}).then(
        () => null,
        (thrown: unknown) => thrown as Error,
      );
      t.equal(error?.name, 'OptionError');
      const shown = typeof message === 'string' ? error?.message.replace(config, 'sortie.yaml') : error?.message;
      t.match(shown, message);
      t.notMatch(error?.message, /sk-secret/);
    });
  }
  await t.rejects(loadOptions({ config: '/nowhere.yaml' }, {}), {
    name: 'OptionError',
    message: '--config must be a readable file, got "/nowhere.yaml" (it does not exist)',
  });
});

void t.test('the command ends with code 2, before it loads a model', (t) => {
  const args = [main, 'serve', '--config', fileOf(t, 'prot: 1')];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  t.equal(status, 2);
  t.match(stderr, /^error: \S+: prot is not an option .* did you mean port\?\n$/);
  t.end();
});
