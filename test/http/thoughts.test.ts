/** Answers of models that think, over HTTP with a scripted engine, in all three protocols. */
import t, { type Test } from 'tap';
import type { Limits } from '../../src/gateway/api/context.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { build } from '../fakes/calls.js';
import type { Script } from '../fakes/engine.js';
import { namedEvents } from '../fakes/named-events.js';
import { events, tokenizer as plain, tokenizerJson, type TestServer } from '../fakes/server.js';

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
  readonly limits?: Partial<Limits>;
}

async function thinking(
  t: Test,
  answer: string,
  { template = SWITCHED, tokenizer = plain, script = {}, limits = {} }: Thinker = {},
): Promise<TestServer & { prompt(): string }> {
  const model = { chat: new ChatTemplate(template, {}), tokenizer };
  const server = await build(t, () => ({ tokens: tokenizer.encode(answer, false), ...script }), { model, limits });
  const prompt = () => tokenizer.decode(server.engine.requests.at(-1)?.prompt ?? [], { special: true });
  return { ...server, prompt };
}

const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const CHAT = '/v1/chat/completions';
const ANSWER = '<think>\nFrance, so Paris.\n</think>\n\nIt is Paris.';
const THOUGHT = 'France, so Paris.';

interface Whole {
  choices: { message: { content: string | null; reasoning_content?: string; tool_calls?: unknown[] } }[];
  usage: { completion_tokens: number; completion_tokens_details: { reasoning_tokens: number } };
}

void t.test('a chat has its thoughts in reasoning_content, whole and streamed, and counts them', async (t) => {
  for (const [template, answer] of [
    [SWITCHED, ANSWER],
    [OPENED, ANSWER.replace('<think>\n', '')],
  ] as const) {
    const server = await thinking(t, answer, { template });
    const fields = { messages, logprobs: true };
    const whole = (await (await server.post(CHAT, fields)).json()) as Whole & {
      choices: { logprobs: { content: { token: string }[] } }[];
    };
    const message = { content: 'It is Paris.', reasoning_content: THOUGHT };
    t.match(whole.choices[0], { finish_reason: 'stop', message });
    const { completion_tokens: all, completion_tokens_details: details } = whole.usage;
    const own = plain.encode('It is Paris.', false).length;
    t.equal(details.reasoning_tokens, all - own, 'thoughts and tags count as thoughts');
    t.equal(whole.choices[0]?.logprobs.content.map(({ token }) => token).join(''), 'It is Paris.');

    const chunks = (await events(await server.post(CHAT, { ...fields, stream: true })))
      .filter((data) => data !== '[DONE]')
      .map((data) => JSON.parse(data) as { choices: { delta: Record<string, string> }[] });
    const deltas = chunks.map(({ choices }) => choices[0]?.delta ?? {});
    t.same(Object.keys(deltas[0] ?? {}), ['role', 'reasoning_content']);
    t.equal(deltas.map(({ reasoning_content: text = '' }) => text).join(''), THOUGHT);
    t.equal(deltas.map(({ content = '' }) => content).join(''), 'It is Paris.');
    t.notOk(deltas.some((delta) => 'content' in delta && 'reasoning_content' in delta));
    t.ok(deltas.filter((delta) => 'reasoning_content' in delta).length > 2, 'thoughts come as they are thought');
  }
});

void t.test('an answer without thoughts is text, and one that is cut in its thoughts has no text', async (t) => {
  const plainAnswer = await thinking(t, 'It is Paris.');
  const whole = (await (await plainAnswer.post(CHAT, { messages })).json()) as Whole;
  t.same(whole.choices[0]?.message, { role: 'assistant', content: 'It is Paris.', refusal: null });
  t.equal(whole.usage.completion_tokens_details.reasoning_tokens, 0);
  const cut = await thinking(t, ANSWER, { script: { end: 'length' } });
  const answer = (await (await cut.post(CHAT, { messages, max_tokens: 6 })).json()) as Whole;
  t.match(answer.choices[0], { finish_reason: 'length', message: { content: '' } });
  t.ok(THOUGHT.startsWith(answer.choices[0]?.message.reasoning_content ?? 'none'));
  const tokens = plain.encode('<think>\nParty 🎉', false).slice(0, -1);
  const half = await thinking(t, '', { script: { tokens, end: 'length' } });
  const { choices } = (await (await half.post(CHAT, { messages, max_tokens: tokens.length })).json()) as Whole;
  const broken = { content: '', reasoning_content: 'Party \uFFFD' };
  t.match(choices[0]?.message, broken, 'half a character is a thought, too');
});

void t.test('stop strings end the text, not the thoughts', async (t) => {
  const server = await thinking(t, ANSWER);
  const answer = (await (await server.post(CHAT, { messages, stop: [' Paris'] })).json()) as Whole;
  t.match(answer.choices[0]?.message, { content: 'It is', reasoning_content: THOUGHT });
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
    const answer = (await (await server.post(CHAT, { messages, ...fields })).json()) as Whole;
    t.ok(server.prompt().endsWith(end), `${JSON.stringify(fields)}: ${server.prompt()}`);
    const isOpen = end.endsWith('<think>\n');
    const message = isOpen ? { content: '', reasoning_content: 'Paris.' } : { content: 'Paris.</think>' };
    t.match(answer.choices[0]?.message, message);
    const counted = await server.post('/tokenize', { messages, ...fields });
    t.match(await counted.json(), { tokens: server.engine.requests.at(-1)?.prompt });
  }
});

void t.test('an answer that continues a message goes on with its thoughts', async (t) => {
  const server = await thinking(t, ' so Paris.</think>It is Paris.');
  const continued = async (content: string): Promise<object | undefined> => {
    const fields = { messages: [...messages, { role: 'assistant', content, prefix: true }] };
    return ((await (await server.post(CHAT, fields)).json()) as Whole).choices[0]?.message;
  };
  t.match(await continued('<think>France,'), { content: 'It is Paris.', reasoning_content: 'so Paris.' });
  t.match(await continued('<think>x</think>France,'), { content: ' so Paris.</think>It is Paris.' });
  const quoting = [{ role: 'user', content: 'What does <think> mean?' }];
  const quoted = (await (await server.post(CHAT, { messages: quoting })).json()) as Whole;
  t.match(quoted.choices[0]?.message, { content: ' so Paris.</think>It is Paris.' }, "a user's tag opens nothing");
});

void t.test('earlier thoughts reach the template', async (t) => {
  const server = await thinking(t, 'Yes.');
  const spoken = '<|im_start|>assistant\n<think>\nHm.\n</think>\n\nParis.<|im_end|>\n<|im_start|>user\nSure?';
  const again = { role: 'user', content: 'Sure?' };
  const thought = { role: 'assistant', content: 'Paris.', reasoning_content: 'Hm.' };
  await server.post(CHAT, { messages: [...messages, thought, again] });
  t.match(server.prompt(), spoken);
  const part = { type: 'reasoning_text', text: 'Hm.' };
  const said = [messages[0], { type: 'reasoning', id: 'rs_1', summary: [], content: [part] }];
  await server.post('/v1/responses', { input: [...said, { role: 'assistant', content: 'Paris.' }, again] });
  t.match(server.prompt(), spoken);
  const blocks = [
    { type: 'thinking', thinking: 'Hm.', signature: '' },
    { type: 'text', text: 'Paris.' },
  ];
  const turns = [...messages, { role: 'assistant', content: blocks }, again];
  await server.post('/v1/messages', { messages: turns, max_tokens: 9 });
  t.match(server.prompt(), spoken);
});

void t.test('calls and grammars hold behind the thoughts', async (t) => {
  const tokenizer = withTags();
  const [open, close] = [plain.vocabulary, plain.vocabulary + 1];
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>';
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const server = await thinking(t, `<think>\nA call.\n</think>\n\n${call}`, { tokenizer });
  const answer = (await (await server.post(CHAT, { messages, tools })).json()) as Whole;
  t.match(answer.choices[0], {
    finish_reason: 'tool_calls',
    message: { content: null, reasoning_content: 'A call.', tool_calls: [{ function: { name: 'f' } }] },
  });
  const blanks = [...plain.encode('\n', false), ...plain.encode('\n\n', false)];
  const thoughts = { open, close, blanks, isOpen: false, most: null };
  t.match(server.engine.requests.at(-1)?.grammar, { kind: 'calls', thoughts });
  await server.post(CHAT, { messages, tools, reasoning_effort: 'none' });
  t.notOk(server.engine.requests.at(-1)?.grammar?.thoughts, 'no thoughts, so the grammar holds at once');

  const json = { messages, response_format: { type: 'json_object' } };
  const opened = await thinking(t, 'Hm.</think>{}', { tokenizer, template: OPENED });
  const object = (await (await opened.post(CHAT, json)).json()) as Whole;
  t.match(object.choices[0]?.message, { content: '{}', reasoning_content: 'Hm.' });
  t.match(opened.engine.requests.at(-1)?.grammar, { kind: 'json', thoughts: { ...thoughts, isOpen: true } });
});

void t.test('tags may be special tokens, which no text has', async (t) => {
  const server = await thinking(t, ANSWER, { tokenizer: withTags(true) });
  const answer = (await (await server.post(CHAT, { messages })).json()) as Whole;
  t.match(answer.choices[0]?.message, { content: 'It is Paris.', reasoning_content: THOUGHT });
});

void t.test('a bound of thoughts is that of vLLM and of Anthropic, and needs tags that are tokens', async (t) => {
  const [tokenizer, close] = [withTags(), plain.vocabulary + 1];
  const server = await thinking(t, ANSWER, { tokenizer });
  const bound = (): object | undefined => server.engine.requests.at(-1)?.grammar ?? undefined;
  await server.post(CHAT, { messages, thinking_token_budget: 7 });
  t.match(bound(), { kind: 'free', thoughts: { close, most: 7, isOpen: false } });
  t.equal(server.engine.requests.at(-1)?.kind, 'chat', 'such answers are as long as others');
  await server.post(CHAT, { messages, thinking_token_budget: 7, reasoning_effort: 'none' });
  t.equal(bound(), undefined);
  const thought = { type: 'enabled', budget_tokens: 1024 };
  await server.post('/v1/messages', { messages, max_tokens: 9, thinking: thought });
  t.match(bound(), { kind: 'free', thoughts: { most: 1024 } });
  await server.post(CHAT, { messages, thinking_token_budget: 7, response_format: { type: 'json_object' } });
  t.match(bound(), { kind: 'json', thoughts: { most: 7 } });
  const others = await thinking(t, ANSWER);
  const rejected = await others.post(CHAT, { messages, thinking_token_budget: 7 });
  t.match(await rejected.json(), { error: { code: 'unsupported_parameter', param: 'thinking_token_budget' } });
  const ignored = await others.post('/v1/messages', { messages, max_tokens: 9, thinking: thought });
  t.equal(ignored.status, 200);
  t.notOk(others.engine.requests.at(-1)?.grammar);
});

void t.test('a budget that lands an answer bounds its thoughts, so that they land first', async (t) => {
  const server = await thinking(t, ANSWER, { tokenizer: withTags() });
  const bound = async (sortie: object): Promise<object | null> => {
    await server.post(CHAT, { messages, sortie });
    return server.engine.requests.at(-1)?.grammar ?? null;
  };
  t.match(await bound({ latency_budget_ms: 5000 }), { kind: 'free', thoughts: { most: null } });
  t.match(await bound({ latency_budget_ms: 5000, budget_on_miss: 'reject' }), { kind: 'free', thoughts: {} });
  t.equal(await bound({ latency_budget_ms: 5000, budget_on_miss: 'continue' }), null);
  t.equal(await bound({ slo_ttft_ms: 5000 }), null);
});

void t.test('a grammar excludes thoughts if their tags are not tokens', async (t) => {
  const server = await thinking(t, '{}', { template: OPENED });
  const asked = await server.post(CHAT, { messages, response_format: { type: 'json_object' } });
  const answer = (await asked.json()) as Whole;
  t.match(answer.choices[0]?.message, { content: '{}' });
  t.match(server.prompt(), /<think>\n\n<\/think>\n\n$/);
  t.notOk(server.engine.requests.at(-1)?.grammar?.thoughts);
});

void t.test('a response has a reasoning item, whole and streamed', async (t) => {
  const server = await thinking(t, ANSWER);
  const fields = { input: 'Capital?', reasoning: { effort: 'low' } };
  t.match(await (await server.post('/v1/responses', fields)).json(), {
    output: [
      { type: 'reasoning', id: /^rs_/, status: 'completed', summary: [], content: [{ text: THOUGHT }] },
      { type: 'message', id: /^msg_/, content: [{ type: 'output_text', text: 'It is Paris.' }] },
    ],
    reasoning: { effort: 'low', summary: null },
    usage: { output_tokens_details: { reasoning_tokens: Number } },
  });
  const stream = namedEvents(await (await server.post('/v1/responses', { ...fields, stream: true })).text());
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
  t.match(await (await server.post('/v1/messages', enabled)).json(), { content: blocks });
  const counted = async (body: object) =>
    (await (await server.post('/v1/messages/count_tokens', body)).json()) as object;
  const length = (): number | undefined => server.engine.requests.at(-1)?.prompt.length;
  t.same(await counted(enabled), { input_tokens: length() });
  const stream = namedEvents(await (await server.post('/v1/messages', { ...enabled, stream: true })).text());
  const starts = stream.filter(({ name }) => name === 'content_block_start').map(({ data }) => data.content_block);
  t.match(starts, [{ type: 'thinking', thinking: '' }, { type: 'text' }]);
  const deltas = stream.flatMap(({ data }) => (data.delta as { thinking?: string } | undefined)?.thinking ?? []);
  t.equal(deltas.join(''), THOUGHT);

  await server.post('/v1/messages', base);
  t.match(server.prompt(), /<think>\n\n<\/think>\n\n$/, 'without the field a message does not think');
  t.same(await counted(base), { input_tokens: length() });
});
