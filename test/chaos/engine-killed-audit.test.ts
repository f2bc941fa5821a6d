/** Kills the engine (SIGKILL) during audits: the answers that wait for them are whole. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { embeddedModel, enginePid, metric, post, serve } from './helper.js';
import { until } from '../support/until.js';

const TOKENS = 8;

void t.test('an engine that is killed during an audit loses no answer', async (t) => {
  const cache = mkdtempSync(join(tmpdir(), 'sortie-audit-'));
  t.teardown(() => {
    rmSync(cache, { recursive: true });
  });
  const server = await serve(t, embeddedModel, ['--cache-dir', cache]);
  // Full depth takes seconds for the prompt; exit 10 has it when the answer ends.
  const prompt = Array.from({ length: 3000 }, (_, i) => 260 + ((i * 37) % 4000));
  const body = { prompt, max_tokens: TOKENS, ignore_eos: true, sortie: { exit_layer: 10, audit: true } };
  const whole = post(server, '/v1/completions', body);
  const streamed = await post(server, '/v1/completions', { ...body, stream: true });
  const text = streamed.text();
  await until('both answers end', async () => (await metric(server, 'sortie_request_success_total')) === 2);
  t.equal(await metric(server, 'sortie_audit_tokens_total'), 0, 'no audit is done');
  process.kill(enginePid(server), 'SIGKILL');
  const answer = await whole;
  t.equal(answer.status, 200);
  t.match(await answer.json(), {
    usage: { completion_tokens: TOKENS },
    choices: [{ finish_reason: 'length' }],
    sortie: { audit: { skipped: 'engine_lost' } },
  });
  t.match(await text, /"finish_reason":"length".*"audit":\{"skipped":"engine_lost"\}\}\}\n\ndata: \[DONE\]\n\n$/s);

  await until('ready again', async () => (await fetch(`${server.url}/health/ready`)).ok);
  const short = { ...body, prompt: 'The capital of France is' };
  t.match(await (await post(server, '/v1/completions', short)).json(), { sortie: { audit: { tokens: TOKENS } } });
});
