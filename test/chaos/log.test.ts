/** A log that can't be written: the server drops lines, but no answers, and its memory stays bounded. */
import { spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import t, { type Test } from 'tap';
import { freePort } from '../../bench/ports.js';
import { serverArgs, stopped } from '../deploy/helper.js';
import { memoryOf, post, tinyModel, untilReady } from './helper.js';

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
