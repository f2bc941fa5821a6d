/** A tokenizer and a chat template of a model folder that never end: the request fails, and the server goes on. */
import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { build, tokenizerJson } from '../fakes/server.js';

const chat = { messages: [{ role: 'user', content: 'hi' }] };

void t.test('a text over which the tokenizer takes an exponential time is a 400', async (t) => {
  const split = { type: 'Split', pattern: { Regex: '^(a+)+$' }, behavior: 'Isolated', invert: false };
  const tokenizer = new TextTokenizer({ ...tokenizerJson, pre_tokenizer: split });
  const server = await build(t, undefined, { model: { tokenizer } });
  const message = /prompt must be a text .* splits in time: it takes more than 1.5 s\./;
  const rejected = await server.ask('/v1/completions', { prompt: `${'a'.repeat(50)}b` });
  t.match(rejected, { status: 400, body: { error: { param: 'prompt', message } } });
  t.equal((await server.ask('/v1/completions', { prompt: 'aab' })).status, 200);
});

for (const [name, template, message] of [
  [
    'a range without end',
    '{% for i in range(10000000000) %}a{% endfor %}',
    /range\(\) must have at most 100000 numbers/,
  ],
  ['another name of a range', '{% set r = range %}{{ r(0, 1, 0.000000001) }}', /at most 100000 numbers/],
  [
    'loops that never end',
    `{% set r = range(99999) %}${'{% for i in r %}'.repeat(3)}a${'{% endfor %}'.repeat(3)}`,
    /more than 1.5 s/,
  ],
  [
    'many ranges',
    '{% for i in range(100000) %}{% set r = range(100000) %}{% endfor %}',
    /the ranges of a rendering must have at most 500000 numbers/,
  ],
  [
    'a list that doubles',
    `{% set n = namespace(x=range(100000)) %}${'{% set n.x = n.x + n.x %}'.repeat(20)}`,
    /a rendering must make at most 20971520 list entries and characters/,
  ],
  [
    'a filter of a long text',
    `{% set n = namespace(x='aa') %}${'{% set n.x = n.x ~ n.x %}'.repeat(25)}{% filter upper %}{{ n.x }}{% endfilter %}`,
    /list entries and characters/,
  ],
  [
    'a list that holds the last one twice',
    `{% set n = namespace(x=[1]) %}${'{% set n.x = [n.x, n.x] %}'.repeat(40)}{{ n.x | tojson }}`,
    /at most 20971520 list entries and characters/,
  ],
  [
    'namespaces that hold the last one twice',
    `{% set n = namespace(x=1) %}${'{% set n = namespace(x=n, y=n) %}'.repeat(40)}{{ n | tojson }}`,
    /list entries and characters, got Infinity/,
  ],
] as const)
  void t.test(`a chat template with ${name} is a 400`, async (t) => {
    const server = await build(t, undefined, { model: { chat: new ChatTemplate(template, {}) } });
    // On a loaded machine the limit of time may come before that of the size.
    const error = { message: new RegExp(`${message.source}|more than 1.5 s`) };
    t.match(await server.ask('/v1/chat/completions', chat), { status: 400, body: { error } });
    t.equal((await server.ask('/v1/completions', { prompt: 'x' })).status, 200);
  });

void t.test('a bounded range is that of Jinja', (t) => {
  const render = (source: string) =>
    new ChatTemplate(source, {}).render([{ role: 'user', content: 'x' }], false, [], { x: { range: 'field' } });
  t.equal(render('{{ range(4) | join(" ") }}, {{ range(2, 5) | join(" ") }}'), '0 1 2 3, 2 3 4');
  t.equal(render('{{ range(5, 0, -2) | join(" ") }}, {{ range(3, 0) | length }}'), '5 3 1, 0');
  t.equal(
    render('{% set n = namespace(range=7) %}{{ n.range }} {{ x.range }} {{ [1, 2][range(1, 2)[0]] }}'),
    '7 field 2',
  );
  t.equal(render('{{ strftime_now("%Y") }}{% if True == true and None is none and not False %}.{% endif %}').length, 5);
  t.throws(() => render('{{ range(1, 2, 0) }}'), /step must not be zero/);
  t.end();
});
