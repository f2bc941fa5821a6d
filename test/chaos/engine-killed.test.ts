/** Kills the engine (SIGKILL) mid-stream under load, more than once. test/http/protocols has the error of each API. */
import t from 'tap';
import { enginePid, metric, post, serve, tinyModel, untilIdle } from './helper.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir({}), 4096);
const PATH = '/v1/completions';
/** An answer that only the kill ends. */
const endless = { prompt: 'The capital of France is', max_tokens: 2000, ignore_eos: true };
const ROUNDS = 2;
const EACH = 6;

void t.test(
  'every answer ends with an error, readiness drops and recovers, and later requests are served',
  async (t) => {
    const server = await serve(t, model);
    const ready = async (): Promise<boolean> => (await fetch(`${server.url}/health/ready`)).ok;
    const asks = (body: object) => Array.from({ length: EACH }, () => post(server, PATH, body));
    for (let round = 1; round <= ROUNDS; round++) {
      const killed = enginePid(server);
      const whole = asks(endless);
      // The status line of a stream is sent with its first token.
      const streams = await Promise.all(asks({ ...endless, stream: true }));
      process.kill(killed, 'SIGKILL');
      for (const stream of streams) {
        const text = await stream.text();
        t.match(text, /^data: \{"id".*"text":"/s, 'tokens before');
        t.match(
          text.slice(-4000),
          /data: \{"error":\{.*"code":"engine_lost","outcome":"cut"\}\}\n\ndata: \[DONE\]\n\n$/,
        );
      }
      for (const response of await Promise.all(whole)) {
        t.equal(response.status, 502);
        t.type(response.headers.get('retry-after'), 'string');
        t.match(await response.json(), { error: { type: 'unavailable_error', code: 'engine_lost' } });
      }
      t.equal((await fetch(`${server.url}/health`)).status, 200, 'liveness continues');
      t.equal(await ready(), false, 'not ready during the restart');
      t.match(await (await post(server, PATH, endless)).json(), { error: { code: 'loading' } });
      await until('ready again', ready);
      t.not(enginePid(server), killed);
      t.equal((await post(server, PATH, { ...endless, max_tokens: 2 })).status, 200);
      t.equal(await metric(server.url, 'engine_down_total'), round);
    }
    await untilIdle(server);
    t.equal(await metric(server.url, 'kv_cache_usage_perc'), 0);
  },
);
