import t from 'tap';
import { ChatTemplate, ChatTemplateError, type ChatMessage } from '../../src/gateway/text/chat-template.js';
import type { ChatTool } from '../../src/gateway/text/tool-form.js';
import { chatTemplate } from '../fakes/server.js';

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
