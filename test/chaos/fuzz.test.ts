/** 3,000 malformed bodies against the real engine: no 500, and no leak. */
import fc from 'fast-check';
import t from 'tap';
import { targets, asText } from '../fakes/bodies.js';
import { post } from '../support/post.js';
import { memoryOf, metric, openFiles, serve, tinyModel, untilIdle } from './helper.js';

const BODIES = 3000;
const TOGETHER = 20;
const model = tinyModel(t.testdir());

const anyBody = fc.oneof(
  ...targets.map(({ path, base, body }) =>
    // Short answers: the test is about input, not output.
    body.map((fields) => ({ path, text: asText({ ...base, ...fields }) })),
  ),
  fc.string().map((text) => ({ path: '/v1/completions', text: `{"prompt":${text}` })),
);

void t.test('no body gets a 500, and memory, sockets and sequences are released', async (t) => {
  const server = await serve(t, model, ['--max-tokens-default', '2']);
  const files = openFiles(server);
  const send = async ({ path, text }: { path: string; text: string }): Promise<string | null> => {
    const response = await post(server.url + path, text);
    const answer = await response.text();
    if (response.status === 200) return null;
    const { error } = JSON.parse(answer) as { error: { message?: unknown; param?: unknown } };
    const expected = response.status < 500 || response.status === 503;
    return expected && typeof error.message === 'string' && 'param' in error
      ? null
      : `${response.status} ${answer} to ${text.slice(0, 1000)}`;
  };
  let sent = 0;
  const round = async (count: number): Promise<void> => {
    const groups = fc.array(anyBody, { minLength: TOGETHER, maxLength: TOGETHER });
    await fc.assert(
      fc.asyncProperty(groups, async (group) => {
        const wrong = (await Promise.all(group.map(send))).filter((answer) => answer !== null);
        sent += group.length;
        if (wrong.length > 0) throw new Error(wrong.join('\n').slice(0, 2000));
      }),
      { numRuns: count / TOGETHER, endOnFailure: true },
    );
  };
  // The first grammar loads the thread of grammars, with 100 MB for a large vocabulary: few random bodies may have none.
  const schema = { prompt: 'a', max_tokens: 1, response_format: { type: 'json_object' } };
  t.equal(await send({ path: '/v1/completions', text: JSON.stringify(schema) }), null);
  await round(0.4 * BODIES);
  const warm = memoryOf(server);
  await round(0.6 * BODIES);
  const grown = memoryOf(server) - warm;
  t.equal(sent, BODIES);
  t.ok(grown < 40, `memory ${warm.toFixed(0)} MB after ${0.4 * BODIES} bodies, ${grown.toFixed(0)} MB more after all`);
  await untilIdle(server);
  t.equal(await metric(server.url, 'kv_cache_usage_perc'), 0);
  t.equal(await metric(server.url, 'engine_down_total'), 0);
  // The HTTP client keeps some connections; 3,000 requests are far more.
  t.ok(openFiles(server) <= files + 5 * TOGETHER, `${openFiles(server)} open files, ${files} before`);
});
