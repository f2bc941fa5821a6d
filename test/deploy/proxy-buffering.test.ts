/** nginx with its default buffering, which Sortie's streams turn off, and with a buffering that no server can turn off. */
import t, { type Test } from 'tap';
import { tinyModel } from './helper.js';
import { missing, post, startBefore, startReplicas } from './pool.js';

const model = tinyModel(t.testdir({}), 4096);
const OFF = 'proxy_buffering off;';

/** @returns when the first part of a stream comes, as a share of the whole time */
async function firstPart(t: Test, url: string): Promise<number> {
  const start = performance.now();
  const response = await post(url, { prompt: 'Count: one, two,', max_tokens: 300, ignore_eos: true, stream: true });
  if (response.body === null) throw new Error('no body');
  let [first, text] = [NaN, ''];
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    if (text === '') first = performance.now() - start;
    text += part;
  }
  t.match(text, /data: \[DONE\]\n\n$/);
  return first / (performance.now() - start);
}

t.setTimeout(120_000);
void t.test('a proxy that buffers streams', { skip: missing('nginx') }, async (t) => {
  const replicas = await startReplicas(t, model, []);
  await t.test("Sortie's X-Accel-Buffering turns nginx's buffers off", async (t) => {
    const { url } = await startBefore(t, 'nginx', replicas, (text) => text.replace(OFF, ''));
    const share = await firstPart(t, url);
    t.ok(share < 0.7, `the first part after ${share} of the time`);
  });
  await t.test('without it, the client waits for the whole answer', async (t) => {
    const more = 'proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 1m; proxy_buffer_size 512k;';
    const { url } = await startBefore(t, 'nginx', replicas, (text) => text.replace(OFF, more));
    const share = await firstPart(t, url);
    t.ok(share > 0.9, `the first part after ${share} of the time`);
  });
});
