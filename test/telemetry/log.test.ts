/** Readable lines of the log. The processes in test/deploy and test/chaos have the JSON log. */
import t from 'tap';
import { createLog, prettyLines } from '../../src/gateway/telemetry/log.js';

void t.test('a request is one short line with its exits and its budget', async (t) => {
  const pretty = await prettyLines(false);
  const request = {
    ...{ level: 30, time: 0, pid: 1, reqId: 'r', method: 'POST', route: '/v1/completions', status: 200, ms: 312.345 },
    ...{ model: 'm', prompt_tokens: 3, completion_tokens: 4, msg: 'request' },
  };
  const plan = { exit_layer: 30, service_class: 'guaranteed', reason: 'deepest' };
  const times = { ttft_ms: 24.56, queue_ms: 0.123 };
  const sortie = { plan, exit_layers: { 30: 4 }, budget_ms: 500, outcome: 'whole', met: true, ...times };
  const line = pretty(JSON.stringify({ ...request, sortie }));
  t.match(line, /^\[\d\d:\d\d:\d\d\] INFO: POST \/v1\/completions 200 in 312 ms \{.*\}\n$/);
  t.same(JSON.parse(line.slice(line.indexOf('{'))), {
    ...{ prompt_tokens: 3, completion_tokens: 4, id: 'r', plan: 'exit 30, guaranteed', exit_layers: { 30: 4 } },
    ...{ ttft_ms: 25, queue_ms: 0, budget_ms: 500, outcome: 'whole' },
  });
  const shallow = { ...sortie, plan: { exit_layer: 15, reason: 'load' }, landed: { at_token: 7, pressure: 3 } };
  t.match(pretty(JSON.stringify({ ...request, sortie: shallow })), /"plan":"exit 15, load".*"landed_at":7/);
  t.notMatch(pretty(JSON.stringify({ ...request, sortie })), /deepest|landed/);
  const open = pretty(JSON.stringify({ ...request, sortie: { ...sortie, budget_ms: undefined, met: undefined } }));
  t.notMatch(open, /budget|outcome/, 'without a budget');
  const rejected = pretty(JSON.stringify({ ...request, status: 400, code: 'invalid_value' }));
  t.match(rejected, /400 in 312 ms .*"code":"invalid_value"/);
});

void t.test('the log is readable on a terminal, and JSON elsewhere', async (t) => {
  for (const isTerminal of [true, false]) t.equal((await createLog('silent', isTerminal)).isPretty, isTerminal);
});
