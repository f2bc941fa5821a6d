/** Answers of models that think, over HTTP with a scripted engine, in all three protocols. */
import t, { type Test } from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { build } from '../fakes/calls.js';
import type { Script } from '../fakes/engine.js';
import { streamed, tokenizer as plain, tokenizerJson, type TestServer } from '../fakes/server.js';

/** As Qwen3's: thinking is on, unless it is switched off, and a history has thoughts only if it keeps them. */
const SWITCHED =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}" +
  "{% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}" +
  "{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}" +
  "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}";
/** As DeepSeek's: the prompt opens the thoughts. */
const OPENED = SWITCHED.replace(/\{% if enable_thinking.*?%\}.*?\{% endif %\}/s, "{{ '<think>\n' }}");

/** The same tokenizer with tags that are tokens. */
function withTags(special = false): TextTokenizer {
  const { added_tokens } = tokenizerJson as { added_tokens: object[] };
  const tag = (content: string, at: number) => ({
    ...{ id: plain.vocabulary + at, content, single_word: false, lstrip: false, rstrip: false },
    ...{ normalized: false, special },
  });
  const tags = [tag('<think>', 0), tag('</think>', 1)];
  return new TextTokenizer({ ...tokenizerJson, added_tokens: [...added_tokens, ...tags] });
}

interface Thinker {
  readonly template?: string;
  readonly tokenizer?: TextTokenizer;
  readonly script?: Partial<Script>;
}

async function thinking(
  t: Test,
  answer: string,
  { template = SWITCHED, tokenizer = plain, script = {} }: Thinker = {},
): Promise<TestServer> {
  const model = { chat: new ChatTemplate(template, {}), tokenizer };
  return build(t, () => ({ tokens: tokenizer.encode(answer, false), ...script }), { model });
}

/** The message of the first choice of a chat. */
const messageOf = async (server: TestServer, fields: object) =>
  (await server.ask(CHAT, { messages, ...fields })).body.choices[0]?.message;

const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const CHAT = '/v1/chat/completions';
const ANSWER = '<think>\nFrance, so Paris.\n</think>\n\nIt is Paris.';
const THOUGHT = 'France, so Paris.';

void t.test('a chat has its thoughts in reasoning_content, whole and streamed, and counts them', async (t) => {
  for (const [template, answer] of [
    [SWITCHED, ANSWER],
    [OPENED, ANSWER.replace('<think>\n', '')],
  ] as const) {
    const server = await thinking(t, answer, { template });
    const fields = { messages, logprobs: true };
    const { choices, usage } = (await server.ask(CHAT, fields)).body;
    const message = { content: 'It is Paris.', reasoning_content: THOUGHT };
    t.match(choices[0], { finish_reason: 'stop', message });
    const own = plain.encode('It is Paris.', false).length;
    const thought = (usage?.completion_tokens ?? 0) - own;
    t.equal(usage?.completion_tokens_details.reasoning_tokens, thought, 'thoughts and tags count as thoughts');
    t.equal(choices[0]?.logprobs?.content.map(({ token }) => token).join(''), 'It is Paris.');
    const deltas = (await server.chunks(CHAT, fields)).map(({ choices }) => choices[0]?.delta ?? {});
    t.same(Object.keys(deltas[0] ?? {}), ['role', 'reasoning_content']);
    t.equal(deltas.map(({ reasoning_content: text = '' }) => text).join(''), THOUGHT);
    t.equal(deltas.map(({ content }) => content ?? '').join(''), 'It is Paris.');
    t.notOk(deltas.some((delta) => 'content' in delta && 'reasoning_content' in delta));
    t.ok(deltas.filter((delta) => 'reasoning_content' in delta).length > 2, 'thoughts come as they are thought');
  }
});

void t.test('stop strings end the text, not the thoughts; tags may be special tokens, which no text has', async (t) => {
  const message = { content: 'It is', reasoning_content: THOUGHT };
  for (const tokenizer of [plain, withTags(true)])
    t.match(await messageOf(await thinking(t, ANSWER, { tokenizer }), { stop: [' Paris'] }), message);
});

void t.test('thoughts are switched off by the template, or by an empty thought', async (t) => {
  const off = '<think>\n\n</think>\n\n';
  for (const [template, fields, end] of [
    [SWITCHED, {}, '<|im_start|>assistant\n'],
    [SWITCHED, { reasoning_effort: 'none' }, `<|im_start|>assistant\n${off}`],
    [SWITCHED, { chat_template_kwargs: { enable_thinking: false } }, `<|im_start|>assistant\n${off}`],
    [OPENED, {}, '<|im_start|>assistant\n<think>\n'],
    [OPENED, { reasoning_effort: 'none' }, `<|im_start|>assistant\n${off}`],
    [OPENED, { reasoning_effort: 'high' }, '<|im_start|>assistant\n<think>\n'],
  ] as const) {
    const server = await thinking(t, 'Paris.</think>', { template });
    const isOpen = end.endsWith('<think>\n');
    const message = isOpen ? { content: '', reasoning_content: 'Paris.' } : { content: 'Paris.</think>' };
    t.match(await messageOf(server, fields), message);
    t.ok(server.prompt().endsWith(end), `${JSON.stringify(fields)}: ${server.prompt()}`);
    const counted = await server.ask('/tokenize', { messages, ...fields });
    t.match(counted.body, { tokens: server.last().prompt });
  }
});

void t.test('earlier thoughts reach the template', async (t) => {
  const server = await thinking(t, 'Yes.');
  const spoken = '<|im_start|>assistant\n<think>\nHm.\n</think>\n\nParis.<|im_end|>\n<|im_start|>user\nSure?';
  const again = { role: 'user', content: 'Sure?' };
  const said = { role: 'assistant', content: 'Paris.' };
  const item = { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'Hm.' }] };
  const blocks = [
    { type: 'thinking', thinking: 'Hm.', signature: '' },
    { type: 'text', text: 'Paris.' },
  ];
  for (const [path, fields] of [
    [CHAT, { messages: [...messages, { ...said, reasoning_content: 'Hm.' }, again] }],
    ['/v1/responses', { input: [...messages, item, said, again] }],
    ['/v1/responses', { input: [...messages, { ...item, content: null, summary: item.content }, said, again] }],
    ['/v1/messages', { messages: [...messages, { ...said, content: blocks }, again], max_tokens: 9 }],
  ] as const) {
    await server.ask(path, fields);
    t.match(server.prompt(), spoken);
  }
});

void t.test('calls and grammars hold behind the thoughts', async (t) => {
  const tokenizer = withTags();
  const [open, close] = [plain.vocabulary, plain.vocabulary + 1];
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>';
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const server = await thinking(t, `<think>\nA call.\n</think>\n\n${call}`, { tokenizer });
  t.match((await server.ask(CHAT, { messages, tools })).body.choices[0], {
    finish_reason: 'tool_calls',
    message: { content: null, reasoning_content: 'A call.', tool_calls: [{ function: { name: 'f' } }] },
  });
  const blanks = [...plain.encode('\n', false), ...plain.encode('\n\n', false)];
  const thoughts = { open, close, blanks, isOpen: false, most: null };
  t.match(server.last().grammar, { kind: 'calls', thoughts });
  await server.ask(CHAT, { messages, tools, reasoning_effort: 'none' });
  t.notOk(server.last().grammar?.thoughts, 'no thoughts, so the grammar holds at once');
  const opened = await thinking(t, 'Hm.</think>{}', { tokenizer, template: OPENED });
  const json = { response_format: { type: 'json_object' } };
  t.match(await messageOf(opened, json), { content: '{}', reasoning_content: 'Hm.' });
  t.match(opened.last().grammar, { kind: 'json', thoughts: { ...thoughts, isOpen: true } });
  const untagged = await thinking(t, '{}', { template: OPENED });
  t.match(await messageOf(untagged, json), { content: '{}' }, 'a grammar excludes thoughts without such tags');
  t.match(untagged.prompt(), /<think>\n\n<\/think>\n\n$/);
  t.notOk(untagged.last().grammar?.thoughts);
});

void t.test(
  'a bound of thoughts is that of vLLM and of Anthropic, and has no effect without tags that are tokens',
  async (t) => {
    const server = await thinking(t, ANSWER, { tokenizer: withTags() });
    const close = plain.vocabulary + 1;
    const object = { response_format: { type: 'json_object' } };
    const enabled = { max_tokens: 9, thinking: { type: 'enabled', budget_tokens: 1024 } };
    // An answer that lands bounds its thoughts, so that they land first.
    const sortie = (fields: object) => ({ sortie: { latency_budget_ms: 5000, ...fields } });
    for (const [fields, grammar, path = CHAT] of [
      [{ thinking_token_budget: 7 }, { kind: 'free', thoughts: { close, most: 7, isOpen: false } }],
      [{ thinking_token_budget: 7, reasoning_effort: 'none' }, null],
      [enabled, { kind: 'free', thoughts: { most: 1024 } }, '/v1/messages'],
      [
        { thinking_token_budget: 7, ...object },
        { kind: 'json', thoughts: { most: 7 } },
      ],
      [sortie({}), { kind: 'free', thoughts: { most: null } }],
      [sortie({ budget_on_miss: 'reject' }), { kind: 'free', thoughts: {} }],
      [sortie({ budget_on_miss: 'continue' }), null],
      [{ sortie: { slo_ttft_ms: 5000 } }, null],
    ] as const) {
      await server.ask(path, { messages, ...fields });
      t.match(server.last().grammar, grammar, JSON.stringify(fields));
      if (grammar?.kind === 'free') t.equal(server.last().kind, 'chat', 'such answers are as long as others');
    }
    const others = await thinking(t, ANSWER);
    for (const [path, fields] of [
      [CHAT, { thinking_token_budget: 7 }],
      ['/v1/messages', enabled],
    ] as const) {
      t.equal((await others.ask(path, { messages, ...fields })).status, 200);
      t.equal(others.last().grammar, null, path);
    }
  },
);

void t.test('a response has a reasoning item, whole and streamed', async (t) => {
  const server = await thinking(t, ANSWER);
  const fields = { input: 'Capital?', reasoning: { effort: 'low' } };
  t.match((await server.ask('/v1/responses', fields)).body, {
    output: [
      { type: 'reasoning', id: /^rs_/, status: 'completed', summary: [], content: [{ text: THOUGHT }] },
      { type: 'message', id: /^msg_/, content: [{ type: 'output_text', text: 'It is Paris.' }] },
    ],
    reasoning: { effort: 'low', summary: null },
    usage: { output_tokens_details: { reasoning_tokens: Number } },
  });
  const stream = await streamed(server, '/v1/responses', fields);
  const names = stream.map(({ name }) => name.replace('response.', ''));
  const order = names.filter((name, index) => name !== names[index - 1]);
  t.same(order, [
    ...['created', 'in_progress'],
    ...['output_item.added', 'content_part.added', 'reasoning_text.delta', 'reasoning_text.done'],
    ...['content_part.done', 'output_item.done'],
    ...['output_item.added', 'content_part.added', 'output_text.delta', 'output_text.done'],
    ...['content_part.done', 'output_item.done', 'completed'],
  ]);
  const deltas = stream.filter(({ name }) => name === 'response.reasoning_text.delta');
  t.equal(deltas.map(({ data }) => data.delta).join(''), THOUGHT);
  t.match(stream.find(({ name }) => name === 'response.reasoning_text.done')?.data, { output_index: 0, text: THOUGHT });
});

void t.test('a message thinks if its request asks for it, and has a thinking block, whole and streamed', async (t) => {
  const server = await thinking(t, ANSWER);
  const base = { messages, max_tokens: 50 };
  const enabled = { ...base, thinking: { type: 'enabled', budget_tokens: 1024 } };
  const blocks = [
    { type: 'thinking', thinking: THOUGHT, signature: '' },
    { type: 'text', text: 'It is Paris.' },
  ];
  t.match((await server.ask('/v1/messages', enabled)).body, { content: blocks });
  const counts = async (body: object) => {
    const { body: counted } = await server.ask('/v1/messages/count_tokens', body);
    t.same(counted, { input_tokens: server.last().prompt.length });
  };
  await counts(enabled);
  const stream = await streamed(server, '/v1/messages', enabled);
  const starts = stream.filter(({ name }) => name === 'content_block_start').map(({ data }) => data.content_block);
  t.match(starts, [{ type: 'thinking', thinking: '' }, { type: 'text' }]);
  const deltas = stream.flatMap(({ data }) => (data.delta as { thinking?: string } | undefined)?.thinking ?? []);
  t.equal(deltas.join(''), THOUGHT);
  await server.ask('/v1/messages', base);
  t.match(server.prompt(), /<think>\n\n<\/think>\n\n$/, 'without the field a message does not think');
  await counts(base);
});

void t.test('an answer that continues a message goes on with its thoughts', async (t) => {
  const server = await thinking(t, ' so Paris.</think>It is Paris.');
  const continued = (content: string) =>
    messageOf(server, { messages: [...messages, { role: 'assistant', content }], continue_final_message: true });
  t.match(await continued('<think>France,'), { content: 'It is Paris.', reasoning_content: 'so Paris.' });
  const text = { content: ' so Paris.</think>It is Paris.' };
  t.match(await continued('<think>x</think>France,'), text);
  const quoting = [{ role: 'user', content: 'What does <think> mean?' }];
  t.match(await messageOf(server, { messages: quoting }), text, "a user's tag opens nothing");
});
