/** Audits and floors of quality over HTTP. */
import fc from 'fast-check';
import t from 'tap';
import type { AuditedToken } from '../../src/protocol/index.js';
import type { AuditReport } from '../../src/gateway/api/schemas/report.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { openPolicy } from '../../src/gateway/api/context.js';
import { build, events, model, says, tokenizer } from '../fakes/server.js';
import { until } from '../support/until.js';

interface Body {
  readonly sortie: { readonly actual_ms: number; readonly audit?: AuditReport };
  readonly choices: readonly { readonly text: string; readonly finish_reason: string | null }[];
  readonly usage?: object;
}

const prompt = { prompt: 'The capital', sortie: { audit: true } };

/** Exits with the manifest's agreement of the embedded model. */
const AGREEMENT = [0.57, 0.67, 0.72, 0.84, 0.93];
const exits = model.exits.map((exit, i) => ({ ...exit, quality: { agreement: AGREEMENT[i] ?? 1 } }));

const ids = tokenizer.encode('Paris is a café.', false);
const token = (index: number, changes: Partial<AuditedToken> = {}): AuditedToken => ({
  ...{ index, token: ids[index] ?? 0, best: ids[index] ?? 0, exit: 15 },
  ...{ rank: 1, logprob: -0.25, bestLogprob: -0.25, probability: 1 },
  ...changes,
});
const other = tokenizer.encode(' was', false)[0] ?? 0;
const audited = ids.map((_, i) =>
  i === 1 ? token(i, { best: other, rank: 3, logprob: -2.25, probability: 0.1 }) : token(i),
);
const script = says('Paris is a café.', { exits: ids.map(() => 15), audit: { tokens: audited } });

void t.test('the report has the audit of the answer', async (t) => {
  const server = await build(t, script);
  const byHeader = () => server.post('/v1/completions', { prompt: 'The capital' }, { 'X-Audit': '1' });
  for (const ask of [() => server.post('/v1/completions', prompt), byHeader]) {
    const { sortie } = (await (await ask()).json()) as Body;
    t.same(sortie.audit, {
      tokens: ids.length,
      agreeing: ids.length - 1,
      agreement: Math.round((1 - 1 / ids.length) * 1e4) / 1e4,
      probability: Math.round(((ids.length - 0.9) / ids.length) * 1e4) / 1e4,
      logprob_given_up: Math.round((2 / ids.length) * 1e4) / 1e4,
      exits: { 15: { tokens: ids.length, agreeing: ids.length - 1 } },
      differences: [
        {
          ...{ choice: 0, position: 1, text_offset: 5, exit_layer: 15, token: ' is', full_depth: ' was' },
          ...{ rank: 3, logprob: -2.25, full_depth_logprob: -0.25 },
        },
      ],
    });
  }
  const plain = (await (await server.post('/v1/completions', { prompt: 'x' })).json()) as Body;
  t.notOk('audit' in plain.sortie);
  t.notOk(server.engine.requests.at(-1)?.audit);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /audit_tokens_total\{exit_layer="15",agrees="false".*\} 1\.8\n/);
});

void t.test('a stream has the audit in its last event, after the text', async (t) => {
  const server = await build(t, script);
  for (const stream_options of [undefined, { include_usage: true }]) {
    const response = await server.post('/v1/chat/completions', {
      ...{ messages: [{ role: 'user', content: 'x' }], stream: true, sortie: { audit: true } },
      ...(stream_options && { stream_options }),
    });
    const all = await events(response);
    t.equal(all.at(-1), '[DONE]');
    const chunks = all.slice(0, -1).map((data) => JSON.parse(data) as Partial<Body>);
    t.equal(chunks.at(-1)?.sortie?.audit?.agreeing, ids.length - 1);
    t.equal(chunks.filter(({ sortie }) => sortie?.audit !== undefined).length, 1);
  }
});

void t.test('an audit of several choices names each, and leaves out tokens behind a stop string', async (t) => {
  const server = await build(t, script);
  const body = { ...prompt, n: 2, stop: ' a' };
  const { sortie, choices } = (await (await server.post('/v1/completions', body)).json()) as Body;
  t.equal(choices[0]?.text, 'Paris is');
  t.equal(sortie.audit?.tokens, 6, 'the token of the stop string counts');
  const places = sortie.audit?.differences?.map(({ choice, position }) => `${choice} ${position}`);
  t.same(places, ['0 1', '1 1']);
});

void t.test('an answer without an audit states the reason', async (t) => {
  const server = await build(t, (request) =>
    says('Paris', { audit: request.prompt.length > 2 ? { skipped: 'memory', tokens: [] } : 'never' })(),
  );
  const whole = (await (await server.post('/v1/completions', { ...prompt, prompt: 'One, two, three' })).json()) as Body;
  t.same(whole.sortie.audit, { skipped: 'memory' });
  // Nothing waits for the audit of an answer whose client is gone.
  const asked = server.engine.requests.length;
  const gone = new AbortController();
  const cut = fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...prompt, prompt: 'One' }),
    signal: gone.signal,
  });
  cut.catch(() => undefined);
  await until('asked', () => server.engine.requests.length > asked);
  await new Promise((resolve) => setTimeout(resolve, 100));
  gone.abort();
  await t.rejects(cut);
});

void t.test('the time of the audit is outside of the budget', async (t) => {
  const server = await build(t, says('Paris', { audit: { skipped: 'memory', tokens: [] } }));
  const sent = performance.now();
  const response = await server.post('/v1/completions', prompt, { 'X-Latency-Budget-Ms': '5000' });
  const { sortie } = (await response.json()) as Body;
  t.ok(sortie.actual_ms < performance.now() - sent - 3);
});

void t.test('a floor of quality takes the shallowest exit that reaches it', async (t) => {
  const server = await build(t, undefined, { model: { exits } });
  const bounds = async (headers: Record<string, string>, sortie: object = {}, name?: string): Promise<unknown> => {
    const body = { prompt: 'x', ...(name !== undefined && { model: name }), sortie };
    const response = await server.post('/v1/completions', body, headers);
    if (response.status !== 200) return ((await response.json()) as { error: object }).error;
    const { minExit, maxExit } = server.engine.requests.at(-1)?.depth ?? {};
    return [minExit, maxExit];
  };
  t.same(await bounds({}), [10, 30]);
  t.same(await bounds({ 'X-Min-Quality': '0.7' }), [20, 30]);
  t.same(await bounds({ 'X-Min-Quality': '0.6, .84' }), [25, 30], 'the largest counts');
  t.same(await bounds({ 'X-Min-Quality': '0.7' }, { min_quality: 0.5 }), [10, 30], 'the body wins');
  t.same(await bounds({}, { min_quality: 0.6, min_exit_layer: 20 }), [20, 30]);
  t.same(await bounds({}, { min_quality: 0.6, max_exit_layer: 20 }), [15, 20]);
  t.same(await bounds({}, { min_quality: 0.6 }, 'fake:25'), [25, 25]);
  t.match(await bounds({}, { min_quality: 0.8, max_exit_layer: 20 }), {
    message: 'sortie.min_quality must be at most 0.72, the best quality of the exits 10, 15, 20, got 0.8.',
    param: 'sortie.min_quality',
    best_quality: 0.72,
  });
  t.match(await bounds({ 'X-Min-Quality': '0.7' }, {}, 'fake:10'), { param: 'X-Min-Quality', best_quality: 0.57 });
  t.match(await bounds({ 'X-Min-Quality': '1' }, { max_exit_layer: 20 }), { best_quality: 0.72 }, 'one is a quality');
  for (const wrong of ['', 'x', '1.1', '-1', '0.7, x', '1e-1', 'NaN', 'Infinity']) {
    const error = { code: 'invalid_value', param: 'X-Min-Quality', message: /must be a number from 0 to 1, got/ };
    t.match(await bounds({ 'X-Min-Quality': wrong }), error, wrong);
  }
  for (const wrong of ['', 'yes', '2', '1, 0']) {
    t.match(await bounds({ 'X-Audit': wrong }), { code: 'invalid_value', param: 'X-Audit' }, wrong);
  }
});

void t.test("the operator's floor holds for requests that state none", async (t) => {
  const key = { ...openKey('k'), policy: { ...openPolicy, minQuality: 0.8 } };
  const high = { ...openKey('high'), policy: { ...openPolicy, minQuality: 0.99 } };
  const server = await build(t, undefined, {
    model: { exits },
    apiKeys: [key, high, 'open'],
    limits: { policy: { ...openPolicy, minQuality: 0.6 } },
  });
  const bounds = async (name: string, body: object = {}): Promise<unknown> => {
    const headers = { authorization: `Bearer ${name}` };
    const response = await server.post('/v1/completions', { prompt: 'x', ...body }, headers);
    t.equal(response.status, 200);
    const { minExit, maxExit } = server.engine.requests.at(-1)?.depth ?? {};
    return [minExit, maxExit];
  };
  t.same(await bounds('k', { sortie: { min_quality: 0.7, latency_budget_ms: 900 } }), [20, 30]);
  t.same(await bounds('k', { model: 'fake:10' }), [10, 10], 'a pinned depth is stronger');
  t.same(await bounds('high', { sortie: { latency_budget_ms: 900 } }), [30, 30], 'as deep as it can be');
});

void t.test('an exit of too few right answers is for requests that state a depth', async (t) => {
  const right = [0.4, 0.6, 0.5, 0.8, 1];
  const server = await build(t, undefined, {
    model: { exits: exits.map((exit, i) => ({ ...exit, quality: { right: right[i] ?? 1 } })) },
    limits: { policy: { ...openPolicy, minAccuracy: 0.6 } },
  });
  for (const [sortie, expected] of [
    [{}, [15, 30]],
    [{ max_exit_layer: 20 }, [15, 20]],
    [{ max_exit_layer: 10 }, [10, 10]],
    [{ min_exit_layer: 10 }, [10, 30]],
    [{ exit_layer: 10 }, [10, 10]],
  ] as const) {
    const response = await server.post('/v1/completions', { prompt: 'x', sortie });
    t.equal(response.status, 200);
    const { minExit, maxExit } = server.engine.requests.at(-1)?.depth ?? {};
    t.same([minExit, maxExit], expected, JSON.stringify(sortie));
  }
});

void t.test('audits move the quality that /props shows and plans go by', async (t) => {
  const server = await build(t, undefined, { model: { exits } });
  const { quality } = server.context.api;
  for (let i = 0; i < 400; i++) quality.observe({ kind: 'completion', key: null }, 10, 60, 60);
  const props = (await (await fetch(`${server.url}/props`)).json()) as { exits: { quality: Record<string, number> }[] };
  const [first, second] = props.exits.map((exit) => exit.quality);
  t.match(first, { prior: 0.57, audited: 1 });
  t.ok((first?.estimate ?? 0) > 0.89 && (first?.estimate ?? 1) <= 0.93, 'full depth bounds it');
  t.match(second, { prior: 0.67, estimate: 0.67, audited: null, audited_answers: 0 });
  await server.post('/v1/completions', { prompt: 'x', sortie: { min_quality: 0.85 } });
  t.equal(server.engine.requests.at(-1)?.depth.minExit, 10);
  t.ok((server.engine.requests.at(-1)?.depth.quality?.[0] ?? 0) > 0.89);
});

void t.test('metrics have the KL of the measured exit', async (t) => {
  const probe = { exit: 20, tokens: 2, agreeing: 1, kl: 0.25 };
  const server = await build(t, says('Paris', { audit: { probe } }), { model: { exits } });
  await server.post('/v1/completions', prompt);
  const text = await (await fetch(`${server.url}/metrics`)).text();
  t.match(text, /audit_kl_nats_sum\{.*exit_layer="20".*\} 0\.25\n/);
});

void t.test('fuzzed floors and audits get an answer or a 400 that names them', async (t) => {
  const server = await build(t, script, { model: { exits } });
  const text = fc.oneof(
    fc.constantFrom('1', '0', 'true', 'false', '.5', '0.99', '1.', '.', '1,0.5'),
    fc.double().map(String),
    fc.stringMatching(/^[\x20-\x7e]{0,12}$/),
  );
  // The server rejects bodies with these keys before it reads a field.
  const value = fc.jsonValue().filter((json) => !/"(__proto__|constructor)"/.test(JSON.stringify(json)));
  await fc.assert(
    fc.asyncProperty(text, text, value, value, async (quality, asked, min_quality, audit) => {
      const headers = { 'X-Min-Quality': quality, 'X-Audit': asked };
      for (const sortie of [{}, { min_quality }, { audit }]) {
        const response = await server.post('/v1/completions', { prompt: 'x', sortie }, headers);
        const body = (await response.json()) as { error?: { param: string } };
        if (response.status === 200) continue;
        const named = /^(X-Min-Quality|X-Audit|sortie\.(min_quality|audit))$/.test(body.error?.param ?? '');
        if (response.status !== 400 || !named) return false;
      }
      return true;
    }),
    { numRuns: 150 },
  );
  for (const { depth, audit } of server.engine.requests) {
    t.ok(exits.some(({ layer }) => layer === depth.minExit) && depth.minExit <= depth.maxExit);
    t.type(audit, 'boolean');
  }
});

void t.test('an audit holds no answer back past its budget', async (t) => {
  const server = await build(t, says('one two', { audit: 'never' }), { model: { exits } });
  const startedAt = performance.now();
  const budget = { 'x-latency-budget-ms': '600', 'x-audit': '1' };
  const response = await server.post('/v1/completions', { prompt: 'x', max_tokens: 2 }, budget);
  t.match(await response.json(), { sortie: { audit: { skipped: 'busy' } } });
  t.ok(performance.now() - startedAt < 5000, 'and not after the 10 s of a request without a budget');
});
