/** Answers of the local model, an upstream and its net: report, headers, log and series say the same of each. */
import t from 'tap';
import type { SOURCES } from '../../src/gateway/telemetry/answer-record.js';
import type { Outcome } from '../../src/protocol/outcome.js';
import type { Script } from '../fakes/engine.js';
import { build, ownModel, says } from '../fakes/server.js';
import { answers, fails, scriptedUpstream, starts, upstream, type UpstreamScript } from '../fakes/upstream.js';
import { movedClock } from '../support/moved-clock.js';

const landed = { at: 3, pressure: 50, probability: 0.2 };
const SENTENCES = 'It is in France. It is large.';
const refused: Script = { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 7000 } };
const stalls: UpstreamScript = (exchange) => starts(exchange, 'One is here. Two');

interface Kind {
  readonly source: (typeof SOURCES)[number];
  /** Of a stream, and of a body. */
  readonly outcomes: readonly [Outcome, Outcome];
  readonly local?: Script;
  readonly there?: UpstreamScript;
  /** The model of the upstream, whose net is `land`; `careful` sends whole sentences only. */
  readonly model?: 'big' | 'careful' | 'netted';
}

const both = (outcome: Outcome) => [outcome, outcome] as const;

/** Eleven ways in which an answer ends. */
const KINDS: readonly Kind[] = [
  { source: 'local', outcomes: both('whole'), local: says('Paris is here.')() },
  { source: 'local', outcomes: both('landed'), local: says('Paris is here.', { ended: { landed } })() },
  { source: 'local', outcomes: both('cut'), local: says('Paris is', { end: 'deadline' })() },
  { source: 'local', outcomes: both('refused'), local: refused },
  {
    source: 'local',
    outcomes: both('cut'),
    local: says('Paris is here.', { end: 'deadline', plan: { landing: 'exact_length' } })(),
  },
  { source: 'upstream', outcomes: both('whole'), there: answers('Paris is here.'), model: 'big' },
  { source: 'upstream', outcomes: both('landed'), there: stalls, model: 'careful' },
  { source: 'upstream', outcomes: ['cut', 'landed'], there: stalls, model: 'big' },
  { source: 'upstream', outcomes: both('empty'), there: fails(500), model: 'big' },
  { source: 'net', outcomes: both('whole'), there: fails(500), local: says(SENTENCES)(), model: 'netted' },
  {
    source: 'net',
    // A body goes back to its last sentence; a stream has shown more.
    outcomes: ['cut', 'landed'],
    there: () => undefined,
    local: says(`It is in France. It is${' so on'.repeat(60)}`, { pace: 110 })(),
    model: 'netted',
  },
];

/** The bodies of one question, by endpoint. */
const QUESTIONS: Readonly<Record<string, object>> = {
  '/v1/completions': { max_tokens: 60, prompt: 'Where?' },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'Where?' }] },
  '/v1/responses': { input: 'Where?' },
  '/v1/messages': { max_tokens: 60, messages: [{ role: 'user', content: 'Where?' }] },
};

interface Part {
  readonly sortie?: { readonly source?: string; readonly outcome?: string };
  readonly response?: Part | null;
  readonly error?: { readonly outcome?: string } | null;
}

/** The source and the outcome in a body, or in the last event of a stream that has them. */
function reported(text: string): { source?: string | undefined; outcome?: string | undefined } {
  const parts = text.startsWith('{') ? [text] : [...text.matchAll(/^data: (\{.*)$/gm)].map(([, json = '']) => json);
  const facts = parts.map((json) => {
    const part = JSON.parse(json) as Part;
    const { sortie, error } = part.response ?? part;
    return { source: sortie?.source, outcome: sortie?.outcome ?? error?.outcome };
  });
  return facts.findLast(({ outcome }) => outcome !== undefined) ?? {};
}

void t.test('44 answers of the local model, an upstream and its net: all tools say the same of each', async (t) => {
  movedClock(t);
  const there = await scriptedUpstream(t, () => undefined);
  const { defaults } = ownModel({ ...upstream, url: there.url });
  const models = { big: {}, careful: { commit: 'sentence' }, netted: { net: 'answer' } } as const;
  const upstreamModels = Object.entries(models).map(([name, more]) => ({
    name,
    upstream: { ...upstream, url: there.url },
    defaults: { ...defaults, ...more },
  }));
  const server = await build(t, undefined, { keepsLog: true, upstreamModels });
  const counts = new Map<string, number>();
  for (const [index, kind] of KINDS.entries())
    for (const [at, [path, question]] of Object.entries(QUESTIONS).entries()) {
      const stream = (index + at) % 2 === 0;
      const { source, local = refused, there: script = stalls, model = 'fake' } = kind;
      const outcome = kind.outcomes[stream ? 0 : 1];
      there.script = script;
      server.engine.script = () => ({ ...local, sentenceMs: 3000 });
      const sortie = { latency_budget_ms: 6000 };
      const { headers, text } = await server.ask(path, { ...question, model, stream, sortie });
      const name = `${path}, ${index}, ${stream ? 'stream' : 'body'}`;
      const told = reported(text);
      const isStream = headers['content-type']?.startsWith('text/event-stream') === true;
      const isPlain = headers['content-type']?.startsWith('application/json') === true && told.outcome === undefined;
      // An upstream's own error keeps its body.
      if (!isPlain) t.equal(told.outcome, outcome, `${name}: body`);
      if (told.source !== undefined) t.equal(told.source, source, `${name}: source`);
      // The status line of a stream may come before the end of its answer.
      if (!isStream || headers['x-sortie-outcome'] !== undefined)
        t.match(headers, { 'x-sortie-outcome': outcome, 'x-sortie-source': source }, `${name}: header`);
      const line = (await server.logged([...counts.values()].reduce((sum, each) => sum + each, 1))).at(-1);
      t.match(line, { route: path, model, sortie: { source, outcome, budget_ms: 6000 } }, `${name}: log`);
      const label = `model_name="${model}",source="${source}",outcome="${outcome}"`;
      counts.set(label, (counts.get(label) ?? 0) + 1);
    }
  const { text } = await server.get('/metrics');
  const rows = [...text.matchAll(/^sortie_answers_total\{.*\} [1-9].*$/gm)].map(([row]) => row);
  const labelOf = (row: string, name: string) => `${name}="${new RegExp(`[{,]${name}="(\\w+)"`).exec(row)?.[1]}"`;
  const counted = rows.map((row) => [
    ['model_name', 'source', 'outcome'].map((name) => labelOf(row, name)).join(','),
    Number(row.split(' ').at(-1)),
  ]);
  t.same(Object.fromEntries(counted), Object.fromEntries(counts), 'series');
});
