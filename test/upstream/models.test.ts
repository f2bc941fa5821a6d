/** Upstream models of flags and files: names, keys, defaults, and the requests that they get. */
import t from 'tap';
import { upstreamSections } from '../../src/cli/options/upstream-sections.js';
import {
  budgetHeader,
  upstreamModels,
  type Surroundings,
  type UpstreamOptions,
} from '../../src/gateway/upstream/upstream.js';
import { build, says } from '../fakes/server.js';
import { answers, scriptedUpstream, starts, upstream } from '../fakes/upstream.js';
import { ask } from './told.js';

const none: UpstreamOptions = { upstream: null, upstreamModel: null, upstreamKeyEnv: null };
const flags = { ...none, upstream: 'http://a/v1', upstreamModel: 'big', upstreamKeyEnv: 'KEY' };

const around = (env = {}, files: Readonly<Record<string, string>> = {}): Surroundings => ({
  localNames: ['small'],
  env,
  readFile: (file) => {
    const text = files[file];
    if (text === undefined) throw new Error('ENOENT');
    return text;
  },
  fault: (message) => new Error(message),
});

const sectionsOf = (upstreams: object, models: object = {}) =>
  upstreamSections('f.yaml', { upstreams, models }, (message) => new Error(message));

void t.test('flags describe one upstream, in the form of a file', (t) => {
  const read = (options: UpstreamOptions, env = {}) => upstreamModels(options, around(env));
  t.same(read(none), []);
  const [model] = read(flags, { KEY: 'k' });
  t.match(model, {
    name: 'big',
    defaults: { latencyBudgetMs: null },
    upstream: { model: 'big', key: 'k' },
  });
  t.equal(model?.upstream.deadlineHeader, 'x-latency-budget-ms');
  t.throws(() => read(flags), /^--upstream-key-env must name a variable that holds a key, got "KEY"$/);
  t.throws(() => read({ ...flags, upstream: null }), /--upstream must/);
  t.throws(() => read({ ...flags, upstreamModel: null }), /--upstream-model must/);
  t.throws(() => read({ ...flags, upstreamModel: 'small:10' }, { KEY: 'k' }), /must differ/);
  t.same(budgetHeader({ deadlineHeader: 'x-ttl-ms' }, 1234.5), { 'x-ttl-ms': '1234' });
  t.same(budgetHeader({ deadlineHeader: 'x-litellm-timeout' }, 1234.5), { 'x-litellm-timeout': '1.234' });
  t.end();
});

void t.test('a file and flags together; a name has one meaning, and a key is read once', (t) => {
  const sections = sectionsOf(
    { far: { url: 'http://b/v1', key_file: 'k.txt' }, near: { url: 'http://c', key_env: 'NEAR' } },
    { one: { upstream: 'far' }, two: { upstream: 'far' } },
  );
  const env = { KEY: 'k', NEAR: 'n' };
  const read = (files: Readonly<Record<string, string>>, more = {}, options = { ...flags, sections }) =>
    upstreamModels(options, around({ ...env, ...more }, files));
  const models = read({ 'k.txt': ' file-key\n' });
  t.same(
    models.map(({ name, upstream: { key } }) => [name, key]),
    [
      ['big', 'k'],
      ['one', 'file-key'],
      ['two', 'file-key'],
      ['near', 'n'],
    ],
  );
  t.equal(models[1]?.upstream, models[2]?.upstream, 'models of an upstream share it');
  for (const files of [{}, { 'k.txt': '' }, { 'k.txt': 'two\nkeys' }]) {
    const rule = 'f.yaml: upstreams.far.key_file must be a readable file that holds a key, got "k.txt"';
    t.throws(() => read(files), { message: rule });
  }
  t.throws(() => read({ 'k.txt': 'k' }, { NEAR: '' }), { message: /^f.yaml: upstreams.near.key_env must name/ });
  const clash = sectionsOf({ big: { url: 'http://b' } });
  t.throws(() => read({}, {}, { ...flags, sections: clash }), {
    message: 'f.yaml: models.big must differ from the name of another model, got "big"',
  });
  const local = sectionsOf({ far: { url: 'http://b' } }, { small: { upstream: 'far' } });
  t.throws(() => read({}, {}, { ...flags, sections: local }), /models.small must differ from the names of the local/);
  t.end();
});

void t.test('each name reaches its own upstream, with its model, key and headers, and no other host', async (t) => {
  const one = await scriptedUpstream(t, answers('One.'));
  const two = await scriptedUpstream(t, answers('Two.'));
  const first = { ...upstream, url: one.url, extraHeaders: { 'x-team': 'blue' } };
  const second = { ...upstream, name: 'second', model: 'other/2', key: null, url: two.url };
  const defaults = { latencyBudgetMs: null, onMiss: null, commit: null, net: null };
  const here = await build(t, says('Local.'), {
    upstreamModels: [
      { name: 'a', upstream: first, defaults },
      { name: 'b', upstream: second, defaults },
      { name: 'c', upstream: first, defaults },
    ],
  });
  for (const [model, there, name] of [
    ['a', one, 'vendor/big-1'],
    ['b', two, 'other/2'],
    ['c', one, 'vendor/big-1'],
  ] as const) {
    const told = await ask(here, { model, stream: true }, 60_000);
    t.equal(told.text, there === one ? 'One.' : 'Two.');
    t.equal(there.exchanges.at(-1)?.body.model, name);
  }
  t.same([one.exchanges.length, two.exchanges.length], [2, 1]);
  const [a] = one.exchanges;
  t.match(a?.headers, { 'x-team': 'blue', authorization: 'Bearer upstream-key' });
  t.notOk(two.exchanges[0] !== undefined && 'authorization' in two.exchanges[0].headers);
  const list = (await (await fetch(`${here.url}/v1/models`)).json()) as { data: { id: string; owned_by: string }[] };
  t.same(
    list.data.filter(({ owned_by }) => owned_by === 'upstream').map(({ id }) => id),
    ['a', 'b', 'c'],
  );
});

void t.test('the defaults of a model hold for requests that state none', async (t) => {
  const there = await scriptedUpstream(t, (exchange) => starts(exchange, 'One is here. Two'));
  const defaults = { latencyBudgetMs: 2500, onMiss: 'truncate', commit: null, net: null } as const;
  const own = { ...upstream, url: there.url };
  const here = await build(t, says('Local.'), {
    upstreamModels: [
      { name: 'cut', upstream: own, defaults },
      { name: 'voice', upstream: own, defaults: { ...defaults, onMiss: null, commit: 'sentence' } },
    ],
  });
  const post = async (model: string, more: object = {}) => {
    const response = await here.post('/v1/chat/completions', { model, messages: [], ...more });
    return (await response.json()) as { choices: { message: { content: string } }[]; sortie: object };
  };
  const cut = await post('cut');
  t.match(cut, { choices: [{ message: { content: 'One is here. Two' } }], sortie: { budget_ms: 2500 } });
  t.type(there.exchanges[0]?.headers['x-latency-budget-ms'], 'string');
  t.match(await post('voice'), { choices: [{ message: { content: 'One is here.' } }] });
  const shorter = await post('cut', { sortie: { latency_budget_ms: 1500 } });
  t.match(shorter, { sortie: { budget_ms: 1500 } }, 'a request wins');
});
