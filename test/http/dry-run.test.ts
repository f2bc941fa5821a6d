/** `sortie.dry_run`: the plan of a request that is not run. */
import t from 'tap';
import { build, events, says } from '../fakes/server.js';

interface Body {
  readonly choices: readonly { readonly finish_reason: string; readonly message?: { readonly content: string } }[];
  readonly usage: { readonly completion_tokens: number };
  readonly sortie: {
    readonly plan: { readonly service_class: string; readonly exit_layer: number };
    readonly exit_layers: object;
    readonly predicted_ms: number;
    readonly budget_ms?: number;
    readonly met?: boolean;
  };
}

const messages = [{ role: 'user', content: 'Hello' }];
const sortie = { dry_run: true, latency_budget_ms: 500, exit_layer: '10-20' };

void t.test('the answer is empty, and the report has the plan', async (t) => {
  const log: string[] = [];
  const server = await build(t, says('never said', { plan: { predictedMs: 123 } }), { log: (line) => log.push(line) });
  for (const [path, prompt] of [
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: 'Hello' }],
  ] as const) {
    const response = await server.post(path, { ...prompt, sortie });
    t.equal(response.status, 200);
    t.equal(response.headers.get('x-exit-layer'), '20');
    const body = (await response.json()) as Body;
    t.match(body, { choices: [{ finish_reason: 'length' }], usage: { completion_tokens: 0 } });
    t.match(body.sortie, {
      plan: { service_class: 'guaranteed', exit_layer: 20 },
      ...{ exit_layers: {}, predicted_ms: 123, budget_ms: 500, met: undefined, outcome: undefined },
    });
  }
  t.equal(server.engine.requests[0]?.isDryRun, true);
  const streamed = await events(await server.post('/v1/chat/completions', { messages, sortie, stream: true }));
  t.equal(streamed.at(-1), '[DONE]');
  t.match(JSON.parse(streamed.at(-2) ?? ''), { choices: [{ finish_reason: 'length' }], sortie: { predicted_ms: 123 } });

  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const counts = /^sortie_(planned_total|request_success_total|prompt_tokens_total|budget_requests_total)\{.* [1-9]/m;
  t.notMatch(metrics, counts, 'no metric counts a dry run');
  const lines = log.map((line) => JSON.parse(line) as object).filter((line) => 'dry_run' in line);
  t.match(lines, [{ dry_run: true }, { dry_run: true }, { dry_run: true }]);
  const hasTokens = lines.some((line) => 'completion_tokens' in line);
  t.notOk(hasTokens, 'simulate passes these lines over');
});

void t.test('a request that the engine rejects is rejected, and a wrong value names its field', async (t) => {
  const reject = { reason: 'budget_infeasible', leastFeasibleMs: 313 } as const;
  const server = await build(t, () => ({ tokens: [], reject }));
  const response = await server.post('/v1/chat/completions', { messages, sortie });
  t.equal(response.status, 503);
  t.match(await response.json(), { error: { code: 'budget_infeasible', least_feasible_budget_ms: 313 } });
  const wrong = await server.post('/v1/chat/completions', { messages, sortie: { dry_run: 'yes' } });
  t.equal(wrong.status, 400);
  t.match(await wrong.json(), { error: { param: 'sortie.dry_run' } });
});
