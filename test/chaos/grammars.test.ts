/** The grammar thread can't start: constrained requests get a 503, and other requests are served. */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { printed } from '../deploy/helper.js';
import { post, serve, tinyModel } from './helper.js';
import { until } from '../support/until.js';

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
