/** SIGTERM under load: accepted requests are answered completely. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { inFlightAt, isAlive, type Sortie } from '../deploy/helper.js';
import { enginePid, post, serve, tinyModel } from './helper.js';
import { until } from '../support/until.js';

const EACH = 12;
const TOKENS = 400;
const body = { prompt: 'Count: one, two,', max_tokens: TOKENS, ignore_eos: true };
const tiny = tinyModel(t.testdir({}), 4096);
// The server may close a kept connection under the next request, so each request has its own connection here.
const alone = { connection: 'close' };

async function isDraining(t: Test, response: Response): Promise<void> {
  t.equal(response.status, 503);
  t.match(await response.json(), { error: { type: 'unavailable_error', code: 'draining' } });
}

void t.test('accepted requests finish, later requests get a 503, exit code 0', async (t) => {
  // More requests than slots: some wait when the signal arrives, and waiting requests are accepted as well.
  const server = await serve(t, tiny, ['--drain-timeout', '120', '--max-running', '8']);
  const exit = once(server.process, 'exit');
  const whole = Array.from({ length: EACH }, () => post(server, '/v1/completions', body, alone));
  const streams = Array.from({ length: EACH }, () =>
    post(server, '/v1/completions', { ...body, stream: true, stream_options: { include_usage: true } }, alone),
  );
  await until('all are accepted', async () => (await inFlightAt(server.url)) === 2 * EACH);
  server.process.kill('SIGTERM');
  await until('draining', async () => (await fetch(`${server.url}/health/ready`)).status === 503);

  // New requests continue until the port is closed.
  let rejected = 0;
  const latecomers = (async () => {
    for (;;) {
      const response = await post(server, '/v1/completions', body, alone).catch(() => null);
      if (response === null) return;
      await isDraining(t, response);
      t.type(response.headers.get('retry-after'), 'string');
      rejected++;
      await sleep(50);
    }
  })();

  for (const response of await Promise.all(whole)) {
    t.equal(response.status, 200);
    t.match(await response.json(), { usage: { completion_tokens: TOKENS } });
  }
  for (const response of await Promise.all(streams)) {
    const text = await response.text();
    t.match(text, `"completion_tokens":${TOKENS}`);
    t.match(text, /"finish_reason":"length".*\[DONE\]\n\n$/s);
  }
  await latecomers;
  t.ok(rejected > 0);
  t.same(await exit, [0, null]);
});

void t.test('a stuck engine delays neither the draining error nor the exit', async (t) => {
  const server = await serve(t, tiny, ['--drain-timeout', '1']);
  const exit = once(server.process, 'exit');
  const engine = enginePid(server);
  process.kill(engine, 'SIGSTOP');
  const stream = post(server, '/v1/completions', { ...body, stream: true });
  const whole = post(server, '/v1/completions', body);
  await until('both are accepted', async () => (await load(server)) === 2);
  server.process.kill('SIGTERM');
  for (const answer of [stream, whole]) await isDraining(t, await answer);
  t.same(await exit, [0, null]);
  t.notOk(isAlive(engine));
});

void t.test('a second signal kills a stuck engine as well', async (t) => {
  const server = await serve(t, tiny);
  const exit = once(server.process, 'exit');
  const engine = enginePid(server);
  process.kill(engine, 'SIGSTOP');
  const lost = post(server, '/v1/completions', body).catch(() => null);
  await until('it is accepted', async () => (await load(server)) === 1);
  server.process.kill('SIGTERM');
  await sleep(1200);
  server.process.kill('SIGTERM');
  t.same(await exit, [130, null]);
  await lost;
  await until('the engine is gone', async () => !isAlive(engine));
});

/** Answers that the gateway holds. */
async function load(server: Sortie): Promise<number> {
  return ((await (await fetch(`${server.url}/load`)).json()) as { server_load: number }).server_load;
}
