/** Function calls on the real model, at its shallowest and its deepest exit. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import Value from 'typebox/value';
import { CallReader, type CallPart } from '../../../src/gateway/api/generation/call-reader.js';
import type { CallsGrammar, SequenceRequest } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/request.js';
import { ChatTemplate, type ChatMessage } from '../../../src/gateway/text/chat-template.js';
import { greedy, MODEL } from '../helper.js';
import { deepest, manifest, outcomes, shallowest, tokenizer } from './answers.js';

const template = new ChatTemplate(readFileSync(join(MODEL, manifest.chatTemplate ?? ''), 'utf8'), {});

const schemas: Record<string, object> = {
  get_weather: {
    type: 'object',
    properties: {
      city: { type: 'string', minLength: 1, maxLength: 20 },
      unit: { enum: ['°C', '°F'] },
      days: { type: 'array', items: { type: 'integer', minimum: 1, maximum: 7 }, minItems: 1, maxItems: 2 },
    },
    required: ['city', 'unit', 'days'],
    additionalProperties: false,
  },
  'set-alarm_2': {
    type: 'object',
    properties: { at: { $ref: '#/$defs/time' }, label: { type: 'string', maxLength: 12 } },
    required: ['at'],
    additionalProperties: false,
    $defs: {
      time: {
        type: 'object',
        properties: { hour: { type: 'integer', minimum: 0, maximum: 23 } },
        required: ['hour'],
        additionalProperties: false,
      },
    },
  },
  nothing: { type: 'object', properties: {}, additionalProperties: false },
};
const functions = Object.entries(schemas).map(([name, schema]) => ({ name, schema: JSON.stringify(schema) }));
const tools = Object.entries(schemas).map(([name, parameters]) => ({
  type: 'function' as const,
  function: { name, parameters },
}));

function ask(
  id: string,
  grammar: Partial<CallsGrammar>,
  exit: number,
  more: Partial<SequenceRequest> = {},
): SequenceRequest {
  const text = template.render([{ role: 'user', content: 'What will the weather in Paris be?' }], true, tools);
  return greedy(id, tokenizer.encode(text, false), exit, 300, {
    stopTokens: manifest.eosTokens,
    grammar: { kind: 'calls', functions, most: 1, isOptional: false, ...grammar },
    ...more,
  });
}

/** Reads an answer as the gateway does. */
function callsOf(tokens: readonly number[]): { name: string; text: string }[] {
  const reader = new CallReader(false);
  const calls: { name: string; text: string }[] = [];
  const detokenizer = tokenizer.detokenizer();
  const parts: CallPart[] = tokens.flatMap((id) => reader.push(detokenizer.push(id)).parts);
  for (const { index, name = '', arguments: text } of parts) {
    const call = (calls[index] ??= { name, text: '' });
    call.text += text;
  }
  if (!reader.isComplete) throw new Error(`not whole: ${tokenizer.decode(tokens)}`);
  return calls;
}

function validates(t: Test, { name, text }: { name: string; text: string }): void {
  t.ok(Value.Check(schemas[name] ?? {}, JSON.parse(text)), `${name} ${text}`);
}

void t.test('the arguments of a required call validate against their schema at every depth', async (t) => {
  for (const exit of [shallowest, deepest]) {
    const hot = { ...GREEDY, temperature: 1.5, seed: 7, topK: 50 };
    const all = await outcomes([
      ask('greedy', {}, exit),
      ask('hot', {}, exit, { sampling: hot }),
      ask('named', { functions: functions.slice(1, 2) }, exit),
      ask('several', { most: 2 }, exit, { sampling: { ...hot, seed: 8 }, minTokens: 60 }),
    ]);
    for (const [id, { tokens, ended, text }] of all) {
      t.equal(ended?.reason, 'stop', `${id} at ${exit}: ${text}`);
      const calls = callsOf(tokens);
      for (const call of calls) validates(t, call);
      if (id === 'named') t.match(calls, [{ name: 'set-alarm_2' }]);
      t.ok(calls.length >= 1 && calls.length <= (id === 'several' ? 2 : 1));
    }
  }
});

void t.test('an answer that begins like a call follows its format from there on', async (t) => {
  // The model continues the pattern of the conversation.
  const history = ['Rome', 'Oslo', 'Lima', 'Cairo'].flatMap((city, index): ChatMessage[] => {
    const call = { name: 'get_weather', arguments: { city } };
    return [
      { role: 'user', content: `Weather in ${city}?` },
      { role: 'assistant', content: '', tool_calls: [{ id: `c${index}`, type: 'function', function: call }] },
      { role: 'tool', content: 'sunny', tool_call_id: `c${index}` },
      { role: 'assistant', content: 'It is sunny.' },
    ];
  });
  const text = template.render([...history, { role: 'user', content: 'Weather in Paris?' }], true);
  const prompt = tokenizer.encode(text, false);
  const answer = (await outcomes([ask('copied', { isOptional: true }, deepest, { prompt })])).get('copied');
  t.equal(answer?.ended?.reason, 'stop', answer?.text ?? '');
  const calls = callsOf(answer?.tokens ?? []);
  t.match(calls, [{ name: 'get_weather', text: /Paris/ }]);
  for (const call of calls) validates(t, call);
});
