/** Kills the engine (SIGKILL) mid-stream under load, more than once. */
import t from 'tap';
import { enginePid, metric, post, serve, tinyModel, untilIdle } from './helper.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir({}), 4096);
const prompt = 'The capital of France is';
const ROUNDS = 2;
const EACH = 3;

interface Wire {
  readonly path: string;
  /** An answer that only the kill ends. */
  readonly endless: object;
  /** The beginning of its stream, and the end after the kill. */
  readonly begins: RegExp;
  readonly ends: RegExp;
  /** The error of a whole answer. */
  readonly error: object;
}

const openaiError = { error: { type: 'unavailable_error', code: 'engine_lost' } };
const messages = [{ role: 'user', content: prompt }];
const wires: readonly Wire[] = [
  {
    path: '/v1/completions',
    endless: { prompt, max_tokens: 2000, ignore_eos: true },
    begins: /^data: \{"id".*"text":"/s,
    ends: /data: \{"error":\{.*"code":"engine_lost","outcome":"cut"\}\}\n\ndata: \[DONE\]\n\n$/,
    error: openaiError,
  },
  {
    path: '/v1/responses',
    endless: { input: prompt, max_output_tokens: 2000, ignore_eos: true },
    begins: /^event: response\.created\n.*event: response\.output_text\.delta\n/s,
    ends: /event: error\ndata: .*"code":"engine_lost".*\n\nevent: response\.failed\ndata: .*"status":"failed".*\n\n$/,
    error: openaiError,
  },
  {
    path: '/v1/messages',
    endless: { messages, max_tokens: 2000, ignore_eos: true },
    begins: /^event: message_start\n.*event: content_block_delta\n/s,
    ends: /event: error\ndata: \{"type":"error","error":\{"type":"overloaded_error",.*"code":"engine_lost","outcome":"cut"\},"request_id":".*"\}\n\n$/,
    error: { type: 'error', error: { type: 'overloaded_error', code: 'engine_lost' } },
  },
];

void t.test(
  'every answer ends with an error of its protocol, readiness drops and recovers, and later requests are served',
  async (t) => {
    const server = await serve(t, model);
    const ready = async (): Promise<boolean> => (await fetch(`${server.url}/health/ready`)).ok;
    const all = wires.flatMap((wire) => Array.from({ length: EACH }, () => wire));
    for (let round = 1; round <= ROUNDS; round++) {
      const killed = enginePid(server);
      const whole = all.map(({ path, endless }) => post(server, path, endless));
      // The status line of a stream is sent with its first token.
      const streams = await Promise.all(
        all.map(({ path, endless }) => post(server, path, { ...endless, stream: true })),
      );
      const texts = streams.map((response) => response.text());
      process.kill(killed, 'SIGKILL');
      for (const [index, { path, begins, ends, error }] of all.entries()) {
        const text = (await texts[index]) ?? '';
        t.match(text, begins, `${path}: tokens before`);
        t.match(text.slice(-4000), ends, path);
        const response = await whole[index];
        t.equal(response?.status, 502);
        t.type(response?.headers.get('retry-after'), 'string');
        t.match(await response?.json(), error, path);
      }
      t.equal((await fetch(`${server.url}/health`)).status, 200, 'liveness continues');
      t.equal(await ready(), false, 'not ready during the restart');
      for (const { path, endless } of wires)
        t.match(await (await post(server, path, endless)).json(), { error: { code: 'loading' } });
      await until('ready again', ready);
      t.not(enginePid(server), killed);
      for (const { path, endless } of wires) {
        const short = { ...endless, ...('input' in endless ? { max_output_tokens: 2 } : { max_tokens: 2 }) };
        t.equal((await post(server, path, short)).status, 200, path);
      }
      t.equal(await metric(server.url, 'engine_down_total'), round);
    }
    await untilIdle(server);
    t.equal(await metric(server.url, 'kv_cache_usage_perc'), 0);
  },
);
