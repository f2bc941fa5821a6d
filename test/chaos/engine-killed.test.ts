/** Kills the engine (SIGKILL) mid-stream under load, more than once. */
import t from 'tap';
import { embeddedModel, enginePid, metric, post, serve, untilIdle, until } from './helper.js';

const prompt = 'The capital of France is';
const ROUNDS = 2;
const EACH = 8;

t.setTimeout(240_000);
void t.test(
  'every answer ends with an error, readiness drops and recovers, and later requests are served',
  async (t) => {
    const server = await serve(t, embeddedModel);
    const ready = async (): Promise<boolean> => (await fetch(`${server.url}/health/ready`)).ok;
    const endless = { prompt, max_tokens: 2000, ignore_eos: true };
    for (let round = 1; round <= ROUNDS; round++) {
      const killed = enginePid(server);
      const whole = Array.from({ length: EACH }, () => post(server, '/v1/completions', endless));
      // The status line of a stream is sent with its first token.
      const streams = await Promise.all(
        Array.from({ length: EACH }, () => post(server, '/v1/completions', { ...endless, stream: true })),
      );
      const texts = streams.map((response) => response.text());
      process.kill(killed, 'SIGKILL');
      for (const text of await Promise.all(texts)) {
        t.match(text, /^data: \{"id".*"text":"/s, 'tokens before');
        t.match(text, /data: \{"error":\{.*"code":"engine_lost"\}\}\n\ndata: \[DONE\]\n\n$/);
      }
      for (const response of await Promise.all(whole)) {
        t.equal(response.status, 502);
        t.type(response.headers.get('retry-after'), 'string');
        t.match(await response.json(), { error: { type: 'unavailable_error', code: 'engine_lost' } });
      }
      t.equal((await fetch(`${server.url}/health`)).status, 200, 'liveness continues');
      t.equal(await ready(), false, 'not ready during the restart');
      t.match(await (await post(server, '/v1/completions', endless)).json(), { error: { code: 'loading' } });
      await until('ready again', ready);
      t.not(enginePid(server), killed);
      t.equal((await post(server, '/v1/completions', { prompt, max_tokens: 2 })).status, 200);
      t.equal(await metric(server, 'sortie_engine_down_total'), round);
    }
    await untilIdle(server);
    t.equal(await metric(server, 'sortie_kv_cache_usage_perc'), 0);
  },
);
