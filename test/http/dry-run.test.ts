/** `sortie.dry_run`: the plan of a request that is not run. */
import t from 'tap';
import { build, says } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Hello' }];
const sortie = { dry_run: true, latency_budget_ms: 500, exit_layer: '10-20' };

void t.test('the answer is empty, and the report has the plan', async (t) => {
  const server = await build(t, says('never said', { plan: { predictedMs: 123 } }), { keepsLog: true });
  const plan = { service_class: 'guaranteed', exit_layer: 20 };
  for (const [path, prompt] of [
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: 'Hello' }],
  ] as const) {
    const answer = await server.ask(path, { ...prompt, sortie });
    t.match(answer, { status: 200, headers: { 'x-exit-layer': '20' } });
    t.match(answer.body, { choices: [{ finish_reason: 'length' }], usage: { completion_tokens: 0 } });
    t.match(answer.body.sortie, { plan, predicted_ms: 123, budget_ms: 500, met: undefined, outcome: undefined });
    t.same(answer.body.sortie?.exit_layers, {});
  }
  t.equal(server.last().isDryRun, true);
  const streamed = await server.chunks('/v1/chat/completions', { messages, sortie });
  t.match(streamed.at(-1), { choices: [{ finish_reason: 'length' }], sortie: { predicted_ms: 123 } });
  const counts = /^sortie_(planned_total|request_success_total|prompt_tokens_total|budget_requests_total)\{.* [1-9]/m;
  t.notMatch((await server.get('/metrics')).text, counts, 'no metric counts a dry run');
  for (const line of (await server.logged(3)).slice(0, 3)) {
    t.equal(line.dry_run, true);
    t.notOk('completion_tokens' in line, 'simulate passes these lines over');
  }
});

void t.test('a request that the engine rejects is rejected', async (t) => {
  const reject = { reason: 'budget_infeasible', leastFeasibleMs: 313 } as const;
  const server = await build(t, () => ({ tokens: [], reject }));
  const error = { code: 'budget_infeasible', least_feasible_budget_ms: 313 };
  t.match(await server.ask('/v1/chat/completions', { messages, sortie }), { status: 503, body: { error } });
});
