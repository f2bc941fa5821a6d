/** The first whole sentence, or the first content, by its own instant, in front of upstreams that are late with it. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Script } from '../fakes/engine.js';
import { tokenizer } from '../fakes/server.js';
import { answers, begin, chunk, event, repeats, say, type UpstreamScript } from '../fakes/upstream.js';
import { ask, both, type Told } from './told.js';

const FIRST_MS = 1200;
const BUDGET_MS = 6000;
const LOCAL = 'It is in France. It is large.';
const THEIRS = 'Paris is the capital. It lies on the Seine.';
/** Time that bytes take to a client on a busy machine. */
const BYTES_MS = 100;

const local = (): Script => ({ tokens: tokenizer.encode(LOCAL, false), pace: 40, prefill: 100, sentenceMs: 400 });

/** The time at which the text of a stream has a whole sentence. */
function sentenceAt({ parts }: Told): number {
  let text = '';
  for (const part of parts) {
    text += part.text;
    if (/[.!?](\s|$)/.test(text)) return part.ms;
  }
  return Infinity;
}

async function netted(t: Test, script: UpstreamScript) {
  const { here, there } = await both(t, script, { nets: { mode: 'answer', observed: () => undefined } });
  here.engine.script = local;
  return { here, there };
}

const headers = { 'x-first-sentence-budget-ms': String(FIRST_MS) };
const stream = { stream: true };

const FAULTS: Readonly<Record<string, UpstreamScript>> = {
  dribbles: async (exchange) => {
    begin(exchange);
    await say(exchange, 'word '.repeat(100), 400);
  },
  'is mute': begin,
  'sends keep-alives': repeats(': keep-alive\n\n'),
  'starts after 4 s': async (exchange) => {
    await delay(4000);
    await answers(THEIRS)(exchange);
  },
};

for (const [name, script] of Object.entries(FAULTS))
  void t.test(`an upstream that ${name}: one sentence by its instant, the answer by the deadline`, async (t) => {
    const { here } = await netted(t, script);
    const all = await Promise.all(Array.from({ length: 12 }, () => ask(here, stream, BUDGET_MS, headers)));
    for (const told of all) {
      t.ok(sentenceAt(told) <= FIRST_MS + BYTES_MS, `a sentence at ${sentenceAt(told)} ms`);
      t.ok(told.ms <= BUDGET_MS + BYTES_MS, `the last byte at ${told.ms} ms`);
      t.equal(told.text, LOCAL);
      const first = { first_sentence_budget_ms: FIRST_MS, first_sentence_ms: Number };
      t.match(told.report, { source: 'net', met: true, ...first, net: { trigger: /latest_start|expected/ } });
    }
  });

void t.test('the sentence of an upstream that is in time gives the whole answer, then in tokens', async (t) => {
  const { here } = await netted(t, answers(THEIRS, 100));
  const told = await ask(here, stream, BUDGET_MS, headers);
  t.equal(told.text, THEIRS);
  t.equal(told.parts[0]?.text, 'Paris ', 'the words of the sentence come together');
  t.ok(told.parts[3]?.ms === told.parts[0]?.ms && (told.parts[5]?.ms ?? 0) > (told.parts[3]?.ms ?? 0));
  t.match(told.report, { source: 'upstream', met: true, net: undefined });
});

void t.test('without a net a late sentence is told and counts, and the answer goes on', async (t) => {
  const { here } = await netted(t, answers(THEIRS, 400));
  const told = await ask(here, { ...stream, sortie: { net: 'land', first_sentence_ms: FIRST_MS } }, BUDGET_MS);
  t.equal(told.text, THEIRS);
  t.match(told.report, { met: false, first_sentence_budget_ms: FIRST_MS, first_sentence_ms: Number });
  for (let i = 0; i < 3; i += 1)
    await ask(here, { ...stream, sortie: { net: 'land', first_sentence_ms: FIRST_MS } }, BUDGET_MS);
  const next = await ask(here, stream, BUDGET_MS, headers);
  t.match(next.report, { net: { trigger: 'expected' } }, 'late sentences let nets start at once');
});

void t.test('alone it bounds no total', async (t) => {
  const { there, here } = await netted(t, answers(THEIRS, 200));
  const response = await here.post(
    '/v1/chat/completions',
    { model: 'big', messages: [{ role: 'user', content: 'Where?' }], stream: true },
    headers,
  );
  t.match(await response.text(), /"sortie":\{"source":"upstream",[^]*"first_sentence_budget_ms":1200/);
  t.notOk('x-latency-budget-ms' in (there.exchanges[0]?.headers ?? {}));
});

void t.test('a call, JSON, and a body that is whole have no first sentence', async (t) => {
  const { here } = await netted(t, (exchange) => {
    begin(exchange);
    exchange.response.end(event(chunk({ content: '{"a":1}' }, 'stop')) + event('[DONE]'));
  });
  for (const more of [{ ...stream, response_format: { type: 'json_object' } }, {}]) {
    const told = await ask(here, more, BUDGET_MS, headers);
    t.match(told, { text: '{"a":1}', report: { source: 'upstream', first_sentence_budget_ms: undefined } });
  }
});

void t.test('a TTFT budget is that of the first content', async (t) => {
  const late = await netted(t, FAULTS['is mute'] ?? begin);
  const told = await ask(late.here, stream, BUDGET_MS, { 'x-slo-ttft-ms': '800' });
  t.ok((told.parts[0]?.ms ?? Infinity) <= 800 + BYTES_MS, `the first content at ${told.parts[0]?.ms} ms`);
  t.match(told.report, { source: 'net', met: true, slo_ttft_ms: 800, ttft_ms: Number });
  const early = await netted(t, answers(THEIRS, 300));
  const theirs = await ask(early.here, stream, BUDGET_MS, { 'x-slo-ttft-ms': '800' });
  t.match(theirs, { text: THEIRS, report: { source: 'upstream', met: true } });
  t.ok((theirs.parts[0]?.ms ?? Infinity) < 300, 'its first word goes out as it comes');
});
