/** Answers of an upstream under a budget: whole in time, or ended at a sentence, or an error before the deadline. */
import { both, ask, type Told } from './told.js';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { events } from '../fakes/server.js';
import {
  answers,
  begin,
  chunk,
  event,
  finish,
  say,
  starts,
  type UpstreamScript,
  breaks,
  SILENT,
  IN_BAND_ERROR,
  HALF_A_CHUNK,
  FILTERED,
} from '../fakes/upstream.js';
import { until } from '../support/until.js';

const TEXT = 'Paris is the capital. It lies on the Seine. Many people live there. The end';
const BUDGET_MS = 4000;

interface Case {
  readonly name: string;
  readonly script: UpstreamScript;
  readonly body?: object;
  /** Checks the answer of a stream, and of a whole one. */
  readonly expect: (t: Test, told: Told, isStream: boolean) => void;
  /** Whether the connection to the upstream stays open to the end of the answer. */
  readonly isOpen?: boolean;
}

const never = (): Promise<void> => delay(20_000, undefined, { ref: false });

const whole = (t: Test, told: Told): void => {
  t.equal(told.text, TEXT);
  t.equal(told.finishReason, 'stop');
  t.match(told.report, { source: 'upstream', landed: undefined, met: Boolean });
};

const lands =
  (text: string, trigger: 'deadline' | 'upstream_failed') =>
  (t: Test, told: Told): void => {
    t.equal(told.text, text);
    t.equal(told.finishReason, 'length');
    t.match(told.report, { source: 'upstream', outcome: 'landed', met: true, landed: { trigger, at_token: Number } });
  };

const errs =
  (code: string) =>
  (t: Test, told: Told): void => {
    t.equal(told.text, '');
    t.equal(told.error?.code, code);
    // Thoughts go out, so the error of a stream is an event.
    const status = code === 'deadline_exceeded' ? 504 : 502;
    t.equal(told.status, told.isStream ? 200 : status, 'the error has its status');
  };

const ends =
  (text: string, reason: string) =>
  (t: Test, told: Told): void => {
    t.same([told.text, told.finishReason], [text, reason]);
  };

const CASES: readonly Case[] = [
  ...Object.entries(SILENT).map(([name, script]) => ({
    ...{ name, script, isOpen: true },
    expect: (t: Test, told: Told, isStream: boolean): void => {
      errs('deadline_exceeded')(t, told);
      t.equal(told.isStream, isStream && name === 'thoughts for ever', 'only thoughts have begun a stream');
    },
  })),
  { name: 'late but whole', script: answers(TEXT, 5), expect: whole },
  {
    name: '[DONE] without an end of the answer',
    script: async (exchange) => {
      await starts(exchange, 'One is here. Two');
      exchange.response.end(event('[DONE]'));
    },
    body: { sortie: { commit: 'sentence' } },
    expect: lands('One is here.', 'upstream_failed'),
  },
  { name: 'in-band error after 200', script: breaks('', IN_BAND_ERROR), expect: errs('upstream_failed') },
  { name: 'broken chunk before a sentence', script: breaks('', HALF_A_CHUNK), expect: errs('upstream_failed') },
  {
    name: 'reset after some sentences',
    body: { sortie: { commit: 'sentence' } },
    script: breaks('One is here. Two is here. Thr', null),
    expect: lands('One is here. Two is here.', 'upstream_failed'),
  },
  {
    name: 'broken chunk after a sentence',
    script: breaks('One is here. ', HALF_A_CHUNK),
    expect: (t, told, isStream) => {
      t.equal(told.text, isStream ? 'One is here. ' : 'One is here.');
    },
  },
  {
    name: 'stall in the window, then go on',
    script: async (exchange) => {
      await starts(exchange, 'One is here. ');
      await delay(BUDGET_MS * 0.6);
      await say(exchange, 'Two is here. Three is');
      await never();
      await say(exchange, 'late.');
    },
    expect: lands('One is here. Two is here.', 'deadline'),
    isOpen: true,
  },
  {
    name: 'a slow crawl in the window',
    script: async (exchange) => {
      await starts(exchange, 'One is here. ');
      await delay(BUDGET_MS * 0.55);
      await say(exchange, 'Two is here. Three is here. Four comes. Five comes. Six comes. Seven.', BUDGET_MS / 15);
    },
    expect: (t, told) => {
      t.match(told.text, /^One is here\.( \w+ (is here|comes)\.)*$/);
      t.equal(told.finishReason, 'length');
    },
    isOpen: true,
  },
  {
    name: 'finish, then a hang',
    script: async (exchange) => {
      await starts(exchange, TEXT);
      exchange.response.write(event(chunk({}, 'stop')));
    },
    expect: whole,
    isOpen: true,
  },
  {
    name: 'half a call',
    body: { tools: [{ type: 'function', function: { name: 'f' } }] },
    script: (exchange) => {
      begin(exchange);
      const call = { index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '{"a' } };
      exchange.response.write(event(chunk({ role: 'assistant', content: null, tool_calls: [call] })));
    },
    expect: errs('deadline_exceeded'),
    isOpen: true,
  },
  {
    name: 'half a JSON',
    body: { response_format: { type: 'json_object' } },
    script: (exchange) => starts(exchange, '{"text": "One is here. Two'),
    expect: (t, told) => {
      t.equal(told.error?.code, 'deadline_exceeded');
    },
    isOpen: true,
  },
  { name: 'content filter', script: breaks('I', FILTERED), expect: ends('I', 'content_filter') },
  {
    name: 'truncate cuts in a sentence',
    body: { sortie: { budget_on_miss: 'truncate' } },
    script: (exchange) => starts(exchange, 'One is here. Two '),
    expect: ends('One is here. Two ', 'length'),
    isOpen: true,
  },
];

for (const { name, script, body, expect, isOpen = false } of CASES) {
  for (const stream of [false, true]) {
    void t.test(`${name}, ${stream ? 'streamed' : 'whole'}`, async (t) => {
      const { there, here } = await both(t, script);
      const told = await ask(here, { stream, ...body }, BUDGET_MS);
      expect(t, told, stream);
      t.ok(told.ms <= BUDGET_MS, `${told.ms} ms`);
      if (told.isStream) t.equal(told.last, '[DONE]', 'a stream has its last event');
      const [exchange] = there.exchanges;
      t.equal(exchange?.body.stream, true, 'the upstream streams in any case');
      t.notOk(exchange !== undefined && 'sortie' in exchange.body);
      const rest = Number(exchange?.headers['x-latency-budget-ms']);
      t.ok(rest > 0 && rest <= BUDGET_MS, `${rest} ms are left`);
      if (isOpen) {
        await until('the end of the upstream', () => exchange?.closedAt != null);
        const after = (exchange?.closedAt ?? Infinity) - told.endedAt;
        t.ok(after < 50, `the upstream is aborted ${after.toFixed(0)} ms after the answer`);
      }
    });
  }
}

void t.test('text flows at once, and behind a sentence in the last window it is held', async (t) => {
  const { here } = await both(t, async (exchange) => {
    await starts(exchange, 'One is ');
    await delay(100);
    await say(exchange, 'here. ');
    await delay(1.6 * BUDGET_MS);
    await say(exchange, 'Two is here. Three');
    await never();
  });
  const told = await ask(here, { stream: true }, 2 * BUDGET_MS);
  const [first, ...others] = told.parts;
  t.equal(first?.text, 'One ');
  t.ok((first?.ms ?? 1e9) < 101, 'the first words come at once');
  t.equal(others.map(({ text }) => text).join(''), 'is here. Two is here.');
  t.notMatch(told.text, /Three/);
});

void t.test('a landed answer has counts of tokens for a client that gets them', async (t) => {
  const { here } = await both(t, (exchange) => starts(exchange, 'One is here. Two'));
  const whole = await ask(here, {}, BUDGET_MS);
  t.match(whole.json, {
    usage: { completion_tokens: 4, estimated: true },
    sortie: { upstream: { usage: { estimated: true } } },
  });
  const body = { model: 'big', messages: [], stream: true, stream_options: { include_usage: true } };
  const response = await here.post('/v1/chat/completions', { ...body, sortie: { latency_budget_ms: BUDGET_MS } });
  const [usage, done] = (await events(response)).slice(-2);
  t.match(JSON.parse(usage ?? ''), { model: 'big', choices: [], usage: { completion_tokens: 4 } });
  t.equal(done, '[DONE]');
});

void t.test('a completion lands in its own form', async (t) => {
  const { here } = await both(t, (exchange) => {
    begin(exchange);
    const text = 'One is here. Two';
    const data = { id: 'x', object: 'text_completion', choices: [{ index: 0, text }] };
    exchange.response.write(event(JSON.stringify(data)));
  });
  const asked = { model: 'big', prompt: 'Count.', sortie: { latency_budget_ms: BUDGET_MS } };
  t.match(await (await here.post('/v1/completions', asked)).json(), {
    object: 'text_completion',
    choices: [{ index: 0, text: 'One is here.', finish_reason: 'length' }],
  });
});

void t.test('an answer without its first choices ends', async (t) => {
  const { here } = await both(t, (exchange) => {
    begin(exchange);
    const part = (more: object) => event(JSON.stringify({ choices: [{ index: 7, delta: {}, ...more }] }));
    exchange.response.end(part({ delta: { content: TEXT } }) + part({ finish_reason: 'stop' }) + event('[DONE]'));
  });
  for (const stream of [false, true]) {
    const told = await ask(here, { stream }, BUDGET_MS);
    t.match(told, { status: 200, choices: { 7: TEXT }, report: { met: true }, error: undefined });
  }
});

void t.test('an answer to a list of prompts ends with the last of them', async (t) => {
  const part = (index: number, text: string) =>
    event(JSON.stringify({ choices: [{ index, text, finish_reason: 'stop' }] }));
  const { here } = await both(t, async (exchange) => {
    begin(exchange);
    exchange.response.write(part(0, 'One.'));
    await delay(20);
    exchange.response.end(part(1, 'Two.') + event('[DONE]'));
  });
  const asked = { model: 'big', prompt: ['1', '2'], sortie: { latency_budget_ms: BUDGET_MS } };
  t.match(await (await here.post('/v1/completions', asked)).json(), {
    choices: [{ text: 'One.' }, { text: 'Two.' }],
    sortie: { source: 'upstream', met: true },
  });
  const stream = await events(await here.post('/v1/completions', { ...asked, stream: true }));
  t.match(stream.join(''), /One\..*Two\..*\[DONE\]/);
});

void t.test('a whole answer out of a stream keeps calls, thoughts, usage and fields of the server', async (t) => {
  const { here } = await both(t, (exchange) => {
    begin(exchange);
    const call = (part: object) => chunk({ tool_calls: [{ index: 0, ...part }] });
    const parts = [
      chunk({ role: 'assistant', reasoning_content: 'Let ' }, null, { system_fingerprint: 'fp' }),
      chunk({ reasoning_content: 'me.' }, null, { system_fingerprint: 'fp' }),
      call({ id: 'c1', type: 'function', function: { name: 'f', arguments: '{"a"' } }),
      call({ function: { arguments: ':1}' } }),
      chunk({}, 'tool_calls'),
      chunk({}, null, { choices: [], usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 } }),
      '[DONE]',
    ];
    exchange.response.end(parts.map(event).join(''));
  });
  const { json } = await ask(here, {}, BUDGET_MS);
  t.match(json, {
    object: 'chat.completion',
    model: 'big',
    system_fingerprint: 'fp',
    usage: { total_tokens: 7 },
    sortie: { source: 'upstream', upstream: { usage: { total_tokens: 7, estimated: undefined } } },
  });
  t.same((json as { choices: unknown }).choices, [
    {
      index: 0,
      finish_reason: 'tool_calls',
      logprobs: null,
      message: {
        role: 'assistant',
        content: null,
        refusal: null,
        reasoning_content: 'Let me.',
        tool_calls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }],
      },
    },
  ]);
});

void t.test('wrong fields of sortie are rejected, and the upstream is not asked', async (t) => {
  const { there, here } = await both(t, finish);
  for (const sortie of [{ latency_budget_ms: -1 }, { exit_layer: 10 }, 'x', { commit: 'word' }]) {
    const response = await here.post('/v1/chat/completions', { model: 'big', messages: [], sortie });
    t.equal(response.status, 400);
    t.match(await response.json(), { error: { code: 'invalid_value', param: 'sortie' } });
  }
  t.equal(there.exchanges.length, 0);
});
