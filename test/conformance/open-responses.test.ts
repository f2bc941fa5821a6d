/**
 * The checks of the Open Responses compliance suite that a text model can pass, against the real server. The schemas
 * follow its specification of 2026-04-24.
 */
import t, { type Test } from 'tap';
import Type, { type TSchema } from 'typebox';
import { Errors } from 'typebox/value';
import { namedEvents } from '../fakes/server.js';
import { post } from '../support/post.js';
import { apiKey, connect, deepest, modelName } from './helper.js';

const server = await connect(t);

const orNull = (type: TSchema) => Type.Union([type, Type.Null()]);
const text = Type.String();
const count = Type.Integer();
const status = Type.Enum(['in_progress', 'completed', 'incomplete']);
const logprobs = Type.Array(Type.Object({ token: text, logprob: Type.Number(), bytes: Type.Array(count) }));
const annotations = Type.Array(Type.Object({}));
const part = Type.Object({ type: Type.Literal('output_text'), text, annotations, logprobs });
const item = Type.Union([
  Type.Object({
    ...{ type: Type.Literal('message'), id: text, status, role: Type.Literal('assistant') },
    content: Type.Array(part),
  }),
  Type.Object({
    ...{ type: Type.Literal('function_call'), id: text, call_id: text, name: text, arguments: text, status },
  }),
]);
const usage = Type.Object({
  ...{ input_tokens: count, output_tokens: count, total_tokens: count },
  input_tokens_details: Type.Object({ cached_tokens: count }),
  output_tokens_details: Type.Object({ reasoning_tokens: count }),
});
const tool = Type.Object({
  ...{ type: Type.Literal('function'), name: text, description: orNull(text), strict: orNull(Type.Boolean()) },
  parameters: orNull(Type.Record(text, Type.Unknown())),
});
const resource = Type.Object({
  ...{ id: text, object: Type.Literal('response'), created_at: count, completed_at: orNull(count), status: text },
  incomplete_details: orNull(Type.Object({ reason: text })),
  ...{ model: text, previous_response_id: orNull(text), instructions: orNull(text), output: Type.Array(item) },
  error: orNull(Type.Object({ code: text, message: text })),
  ...{ tools: Type.Array(tool), tool_choice: Type.Enum(['none', 'auto', 'required']), truncation: text },
  ...{ parallel_tool_calls: Type.Boolean(), text: Type.Object({ format: Type.Object({ type: text }) }) },
  ...{ top_p: Type.Number(), presence_penalty: Type.Number(), frequency_penalty: Type.Number(), top_logprobs: count },
  ...{ temperature: Type.Number(), reasoning: Type.Null(), usage: orNull(usage), max_output_tokens: orNull(count) },
  ...{ max_tool_calls: orNull(count), store: Type.Boolean(), background: Type.Boolean(), service_tier: text },
  ...{ metadata: Type.Object({}), safety_identifier: orNull(text), prompt_cache_key: orNull(text) },
});

const place = { item_id: text, output_index: count };
const content = { ...place, content_index: count };
/** The fields of each event besides `type` and `sequence_number`. */
const EVENTS: Readonly<Record<string, Readonly<Record<string, TSchema>>>> = {
  'response.created': { response: resource },
  'response.in_progress': { response: resource },
  'response.completed': { response: resource },
  'response.incomplete': { response: resource },
  'response.output_item.added': { output_index: count, item },
  'response.output_item.done': { output_index: count, item },
  'response.content_part.added': { ...content, part },
  'response.content_part.done': { ...content, part },
  'response.output_text.delta': { ...content, delta: text, logprobs },
  'response.output_text.done': { ...content, text, logprobs },
  'response.function_call_arguments.delta': { ...place, delta: text },
  'response.function_call_arguments.done': { ...place, arguments: text },
};

function check(t: Test, schema: TSchema, value: unknown, what: string): void {
  t.strictSame(Errors(schema, value), [], what);
}

interface Resource {
  readonly status: string;
  readonly output: { readonly type: string }[];
}

const user = (content: string) => ({ type: 'message', role: 'user', content });

/** A sampled answer sometimes rambles up to its limit, which takes minutes. */
const usual = { model: `${modelName}:${deepest}`, temperature: 0, max_output_tokens: 1024 };

async function ask(body: object, stream: boolean): Promise<string> {
  const authorization = `Bearer ${apiKey}`;
  const response = await post(`${server.baseURL}/responses`, { ...usual, ...body, stream }, { authorization });
  const answer = await response.text();
  if (!response.ok) throw new Error(answer);
  return answer;
}

async function whole(t: Test, body: object): Promise<Resource> {
  const answer = JSON.parse(await ask(body, false)) as Resource;
  check(t, resource, answer, 'the resource');
  t.ok(answer.output.length > 0, 'it has output');
  return answer;
}

/** @returns the resource of the last event, and the types of all events */
async function streamed(t: Test, body: object): Promise<{ answer: Resource; types: string[] }> {
  const last: string[] = [];
  const events = namedEvents(await ask(body, true), last);
  t.strictSame(last, [], "no [DONE]: the stream ends as OpenAI's");
  for (const { name, data } of events) {
    const fields = EVENTS[name];
    if (fields === undefined) throw new Error(`an event ${name}`);
    const schema = Type.Object({ type: Type.Literal(name), sequence_number: count, ...fields });
    const errors = Errors(schema, data);
    if (errors.length > 0) t.strictSame(errors, [], name);
  }
  const types = events.map(({ name, data }) => {
    const { type } = (data.item ?? {}) as { type?: string };
    return type === undefined ? name : `${name} ${type}`;
  });
  return { answer: events.at(-1)?.data.response as Resource, types };
}

const alice = { ...user('Hello Alice! Nice to meet you. How can I help you today?'), role: 'assistant' };

void t.test('a whole response fits its schema, and is completed', async (t) => {
  for (const input of [
    [{ ...user('You are a pirate. Always respond in pirate speak.'), role: 'system' }, user('Say hello.')],
    [user('My name is Alice.'), alice, user('What is my name?')],
  ])
    t.equal((await whole(t, { input })).status, 'completed');
});

void t.test('the events of a stream fit their schemas', async (t) => {
  const { answer } = await streamed(t, { input: [user('Count from 1 to 5.')] });
  check(t, resource, answer, 'the resource');
  t.equal(answer.status, 'completed');
});

void t.test('so do a call, and its events', async (t) => {
  // The suite leaves the choice to the model. The embedded one is too small to call a tool of its own accord.
  const parameters = { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] };
  const asked = {
    tool_choice: 'required',
    input: [user("What's the weather like in San Francisco?")],
    tools: [{ type: 'function', name: 'get_weather', description: 'Get the current weather', parameters }],
  };
  t.match((await whole(t, asked)).output, [{ type: 'function_call' }]);
  const { types } = await streamed(t, asked);
  for (const type of ['output_item.added function_call', 'output_item.done function_call'])
    t.ok(types.includes(`response.${type}`), type);
  for (const type of ['delta', 'done']) t.ok(types.includes(`response.function_call_arguments.${type}`), type);
});
