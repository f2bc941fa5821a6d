/** Comments in a silent stream under a budget, and their price: after the first one an error is an event. */
import t from 'tap';
import type { SequenceRequest } from '../../src/protocol/index.js';
import type { Script } from '../fakes/engine.js';
import { build, says, tokenizer } from '../fakes/server.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';

const BUDGET_MS = 2500;
const body = { model: 'big', messages: [], stream: true, sortie: { latency_budget_ms: BUDGET_MS } };

void t.test('with --keep-alive 1 comments come from the first second on', async (t) => {
  const there = await scriptedUpstream(t, () => undefined);
  const here = await build(t, says('Local.'), {
    upstreams: [{ ...upstream, url: there.url }],
    options: { keepAlive: 1 },
  });
  const response = await here.post('/v1/chat/completions', body);
  t.equal(response.status, 200);
  const text = await response.text();
  t.match(text, /^: keep-alive\n\n/);
  t.match(text, /data: {"error":{[^\n]*"code":"deadline_exceeded"[^\n]*\n\ndata: \[DONE\]\n\n$/);
});

void t.test('with an armed net they do by default: an answer is sure to come', async (t) => {
  const there = await scriptedUpstream(t, () => undefined);
  const promised = { prefillMs: 15, fullMs: 20, besideMs: 1, direct: [] };
  const forecast: Script = { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 300, promised } };
  const local = (request: SequenceRequest): Script =>
    request.isDryRun === true ? forecast : { tokens: tokenizer.encode('It is Paris.', false) };
  const here = await build(t, local, {
    upstreams: [{ ...upstream, url: there.url }],
    nets: { mode: 'answer', observer: { ended: () => undefined } },
  });
  const asks = { ...body, messages: [{ role: 'user', content: 'Where is it?' }] };
  const text = await (await here.post('/v1/chat/completions', asks)).text();
  t.match(text, /^: keep-alive\n\n/);
  t.match(text, /"source":"local"[^]*data: \[DONE\]\n\n$/);
});

void t.test('by default an error of a budgeted stream keeps its status', async (t) => {
  const there = await scriptedUpstream(t, () => undefined);
  const here = await build(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }] });
  const response = await here.post('/v1/chat/completions', body);
  t.equal(response.status, 504);
  t.match(await response.json(), { error: { code: 'deadline_exceeded' } });
});
