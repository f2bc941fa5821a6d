import t from 'tap';
import fc from 'fast-check';
import { ChatTemplate, ChatTemplateError, type ChatMessage } from '../../src/gateway/text/chat-template.js';
import type { ChatTool } from '../../src/gateway/text/tool-form.js';
import { chatTemplate } from '../fakes/server.js';
import { endsInThoughts, ThoughtReader, thoughtTags, type ThoughtTags } from '../../src/gateway/text/thoughts.js';

const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather: ChatTool = {
  ...{ type: 'function', function: { name: 'get_weather', description: 'Weather of a city.', parameters } },
};
const call = (id: string, city: string) =>
  ({ id, type: 'function', function: { name: 'get_weather', arguments: { city } } }) as const;
const conversation: ChatMessage[] = [
  { role: 'user', content: 'Weather in Paris and Köln?' },
  { role: 'assistant', content: 'Let me see.', tool_calls: [call('a', 'Paris'), call('b', 'Köln')] },
  { role: 'tool', content: 'sunny', tool_call_id: 'a' },
  { role: 'tool', content: 'rain', tool_call_id: 'b' },
];

void t.test('a template without tools gets them in the fixed form', (t) => {
  const template = new ChatTemplate(chatTemplate, {});
  t.equal(
    template.render([{ role: 'system', content: 'Be brief.' }, ...conversation], true, [weather]),
    `<|im_start|>system
Be brief.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
<|im_start|>user
Weather in Paris and Köln?<|im_end|>
<|im_start|>assistant
Let me see.
<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris"}}
</tool_call>
<tool_call>
{"name": "get_weather", "arguments": {"city": "Köln"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
sunny
</tool_response>
<tool_response>
rain
</tool_response><|im_end|>
<|im_start|>assistant
`,
  );
  const alone = template.render(conversation.slice(0, 1), true, [weather]);
  t.match(alone, /^<\|im_start\|>system\n# Tools\n/, 'without a system message of the client');
  t.match(alone, /<\|im_start\|>user\nWeather in Paris/);
  const empty = template.render([{ role: 'system', content: '' }, ...conversation.slice(0, 1)], true, [weather]);
  t.equal(empty, alone, 'with an empty system message');
  const later = template.render(conversation, true);
  t.notMatch(later, /# Tools|system/, 'a history of calls renders without tools');
  t.match(later, /<tool_call>\n.*<tool_response>\nrain/s);
  const again: ChatMessage[] = [
    { role: 'assistant', content: '', tool_calls: [call('c', 'Oslo')] },
    { role: 'tool', content: 'snow', tool_call_id: 'c' },
  ];
  const rounds = template.render([...conversation, ...again], false);
  t.match(rounds, /user\n<tool_response>\nsnow\n<\/tool_response><\|im_end\|>\n$/, 'each round keeps its own results');
  t.end();
});

void t.test('a template with tools in this form renders them itself', (t) => {
  const named = '{% if tools %}{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}{% endif %}';
  const source =
    named +
    '{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}' +
    '<tool_call>{{ c.function.arguments | tojson }}</tool_call>{% endfor %}|{% endfor %}';
  const text = new ChatTemplate(source, {}).render(conversation, false, [weather]);
  t.equal(
    text,
    '[get_weather]user:Weather in Paris and Köln?|assistant:Let me see.<tool_call>{"city": "Paris"}</tool_call>' +
      '<tool_call>{"city": "Köln"}</tool_call>|tool:sunny|tool:rain|',
  );
  const defined = new ChatTemplate(`{% if tools is defined %}told of <tool_call>{% endif %}.`, {});
  t.equal(defined.render(conversation, false), '.', 'without tools the variable is undefined');
  const fixed = (other: string) => new ChatTemplate(other, {}).render(conversation, false, [weather]);
  const calls = source.replace(named, '');
  t.match(fixed(calls), /# Tools/, 'a template with calls alone gets the fixed form');
  const form = source.replaceAll('tool_call>', 'python_tag>');
  t.match(fixed(form), /# Tools/, 'a template with another form gets the fixed form');
  t.end();
});

void t.test('a conversation that the fixed form cannot express is a ChatTemplateError', (t) => {
  const template = new ChatTemplate(chatTemplate, {});
  let parameters: object = {};
  for (let depth = 0; depth < 50_000; depth++) parameters = { a: parameters };
  const tool: ChatTool = { type: 'function', function: { name: 'f', parameters } };
  t.throws(() => template.render(conversation, true, [tool]), ChatTemplateError);
  t.end();
});

// Thoughts apart from the text of an answer, however its tags are cut.

const THINK: ThoughtTags = { open: '<think>', close: '</think>' };

/** Reads an answer in pieces. */
function read(pieces: readonly string[], isOpen = false): { thoughts: string; text: string } {
  const reader = new ThoughtReader(THINK, isOpen);
  const parts = [...pieces.map((piece) => reader.push(piece)), reader.end()];
  return { thoughts: parts.map((part) => part.thoughts).join(''), text: parts.map((part) => part.text).join('') };
}

void t.test('thoughts, their tags and the space around them leave the text', async (t) => {
  const cases: [answer: string, isOpen: boolean, thoughts: string, text: string][] = [
    ['<think>\nHm.\n</think>\n\nParis.', false, 'Hm.', 'Paris.'],
    ['\n<think>Hm.</think>Paris.', false, 'Hm.', 'Paris.'],
    ['<think>\n\n</think>\n\nParis.', false, '', 'Paris.'],
    ['Hm.\n\nHm!\n</think>\n\n Paris.\n', true, 'Hm.\n\nHm!', 'Paris.\n'],
    ['Paris <think> is </think> a city.', false, '', 'Paris <think> is </think> a city.'],
    [' Paris', false, '', ' Paris'],
    ['<thin', false, '', '<thin'],
    ['', false, '', ''],
    ['<think>Hm, no end \n', false, 'Hm, no end', ''],
    ['<think>Hm </thin', false, 'Hm </thin', ''],
    ['<think>a <think> b </think> c </think> d', false, 'a <think> b', 'c </think> d'],
    ['<think>a</think>', false, 'a', ''],
    ['a </th> b</think>c', true, 'a </th> b', 'c'],
  ];
  for (const [answer, isOpen, thoughts, text] of cases)
    await t.test(JSON.stringify(answer), async (t) => {
      t.same(read([answer], isOpen), { thoughts, text });
      t.same(read(Array.from(answer), isOpen), { thoughts, text }, 'by characters');
    });
});

void t.test('the cuts of an answer change nothing', (t) => {
  const part = fc.constantFrom('<think>', '</think>', '<', '</', 'think>', ' ', '\n', 'a', 'bc', '>');
  const answer = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(answer, fc.boolean(), fc.array(fc.nat(60), { maxLength: 8 }), (text, isOpen, cuts) => {
      const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length];
      const pieces = places.slice(1).map((place, index) => text.slice(places[index], place));
      const [whole, cut] = [read([text], isOpen), read(pieces, isOpen)];
      return whole.thoughts === cut.thoughts && whole.text === cut.text;
    }),
  );
  t.end();
});

void t.test('thoughts are shown as they come, and only a beginning of a tag is held back', (t) => {
  const reader = new ThoughtReader(THINK, true);
  const shown = ['One ', 'two <', '/b ', '</thi', 'nk>\n', '\nSo'].map((piece) => reader.push(piece));
  const thoughtsOnly = shown.map(({ thoughts }) => thoughts);
  t.same(thoughtsOnly, ['One', ' two', ' </b', '', '', '']);
  t.same(shown.at(-1), { thoughts: '', text: 'So' });
  t.end();
});

void t.test('tags are found in a template, and open ones at the end of a text', (t) => {
  t.same(thoughtTags("{%- if '</think>' in content %}"), THINK);
  t.same(thoughtTags('[THINK]{{ x }}[/THINK]'), { open: '[THINK]', close: '[/THINK]' });
  t.equal(thoughtTags('{{ messages }}'), null);
  t.equal(endsInThoughts(THINK, '<think>a</think><think>b'), true);
  t.equal(endsInThoughts(THINK, '<think>a</think>b'), false);
  t.equal(endsInThoughts(THINK, 'b'), false);
  t.end();
});
