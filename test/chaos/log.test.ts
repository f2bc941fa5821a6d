/** A log that can't be written: the server drops lines, but no answers, and its memory stays bounded. */
import { spawn } from 'node:child_process';
import { openSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freePort } from '../../bench/ports.js';
import { serverArgs, stopped, printed } from '../deploy/helper.js';
import { memoryOf, post, tinyModel, untilReady, serve } from './helper.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir());
const REQUESTS = 400;

/** @param log destination of standard output and standard error */
async function survives(t: Test, log: number | 'closed pipe' | 'stalled pipe'): Promise<void> {
  const port = await freePort();
  const args = serverArgs(model, '--port', String(port), '--log-prompts', 'on');
  const to = typeof log === 'number' ? log : 'pipe';
  const child = spawn(process.execPath, args, { stdio: ['ignore', to, to] });
  t.teardown(() => child.kill('SIGKILL'));
  if (log === 'closed pipe') {
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
  const server = { process: child, url: `http://127.0.0.1:${port}` };
  await untilReady(server.url, child);
  const ask = async (): Promise<void> => {
    // The log line contains the body: lines that can't be written must not pile up.
    const body = { prompt: 'a', max_tokens: 1, user: 'x'.repeat(200), pad: 'y'.repeat(50_000) };
    const response = await post(server, '/v1/completions', body);
    t.equal(response.status, 200);
    await response.text();
  };
  for (let i = 0; i < REQUESTS / 2; i++) await ask();
  const half = memoryOf(server);
  for (let i = 0; i < REQUESTS / 2; i++) await ask();
  t.ok(
    memoryOf(server) - half < 40,
    `memory after half the requests ${half.toFixed(0)} MB, after all ${memoryOf(server).toFixed(0)}`,
  );
  t.equal(await stopped(child), log === 'stalled pipe' ? null : 0);
}

for (const [what, log] of [
  ['full disk', openSync('/dev/full', 'w')],
  ['stalled reader of the log', 'stalled pipe'],
  ['closed log pipe', 'closed pipe'],
] as const)
  void t.test(`a ${what} does not disturb the server`, (t) => survives(t, log));

// The grammar thread can't start: constrained requests get a 503, and other requests are served.

void t.test('constrained requests get a 503 without a path during the fault, and are served after it', async (t) => {
  const model = tinyModel(t.testdir());
  const server = await serve(t, model);
  const log = printed(server.process);
  const ask = (more: object) => post(server, '/v1/completions', { prompt: 'a b', max_tokens: 4, ...more });
  const json = { response_format: { type: 'json_object' } };
  // The thread reads the file when it starts, at the first constrained request.
  const file = join(model, 'tokenizer.json');
  renameSync(file, `${file}.gone`);
  for (const stream of [false, true]) {
    const rejected = await ask({ ...json, stream });
    t.equal(rejected.status, 502);
    t.ok(rejected.headers.has('retry-after') && rejected.headers.has('retry-after-ms'));
    const text = await rejected.text();
    t.match(JSON.parse(text), { error: { type: 'unavailable_error', code: 'grammars_lost', param: null } });
    t.notMatch(text, /tokenizer|ENOENT|\/tiny/);
  }
  t.equal((await ask({})).status, 200, 'plain text is served');
  await until('logged', () => Promise.resolve(/"fault":"[^"]*tokenizer\.json/.test(log())));
  t.match(
    await (await fetch(`${server.url}/metrics`)).text(),
    /request_failure_total\{reason="grammars_lost",[^}]*\} 2\n/,
  );
  renameSync(`${file}.gone`, file);
  t.equal((await ask(json)).status, 200, 'another thread starts');
});
