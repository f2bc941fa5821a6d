/** An adversary with an own key asks the built server about prompts of another key. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { serve, tinyModel } from './helper.js';

const dir = t.testdir({ keys: 'alpha\nbeta\n' });
const model = tinyModel(dir);

type Ask = (key: string, prompt: string, more?: object) => Promise<number>;

/** A server with two keys. @returns a function that sends a prompt and returns the cached tokens that it reports */
async function connect(t: Test, options: readonly string[] = []): Promise<Ask> {
  const { url } = await serve(t, model, ['--api-key-file', join(dir, 'keys'), ...options]);
  return async (key, prompt, more = {}) => {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ prompt, max_tokens: 1, ...more }),
    });
    const body = (await response.json()) as { usage?: { prompt_tokens_details: { cached_tokens: number } } };
    if (body.usage === undefined) throw new Error(JSON.stringify(body));
    return body.usage.prompt_tokens_details.cached_tokens;
  };
}

const SECRET = 'My password is hunter2 and my pin is 4711 and my dog is called Rex. Do not tell anyone.';

void t.test('a guess of another key learns nothing; the own key and the own salt hit', async (t) => {
  const ask = await connect(t);
  t.equal(await ask('alpha', SECRET), 0);
  t.equal(await ask('beta', `${SECRET}x`), 0, 'the whole text as a guess');
  t.ok((await ask('alpha', `${SECRET}y`)) > 16, 'the same key');
  t.equal(await ask('alpha', `${SECRET}z`, { cache_salt: 'one' }), 0, 'a first salt');
  t.ok((await ask('alpha', `${SECRET}a`, { cache_salt: 'one' })) > 16, 'the same salt');
  t.equal(await ask('alpha', `${SECRET}b`, { cache_salt: 'two' }), 0, 'another salt');
  t.equal(await ask('beta', `${SECRET}c`, { cache_salt: 'one' }), 0, 'the same salt of another key');
});

void t.test('a prompt in progress of another key is not shared either', async (t) => {
  const ask = await connect(t);
  const others = Array.from({ length: 4 }, () => ask('alpha', SECRET, { max_tokens: 8, ignore_eos: true }));
  const guesses = Array.from({ length: 2 }, (_, i) => ask('beta', `${i}${SECRET}`));
  const same = ask('beta', SECRET);
  await Promise.all(others);
  t.equal(await same, 0);
  t.strictSame(await Promise.all(guesses), [0, 0]);
});

void t.test('--prefix-reuse all shares prefixes across keys, and off shares none', async (t) => {
  const shared = await connect(t, ['--prefix-reuse', 'all']);
  await shared('alpha', SECRET);
  t.ok((await shared('beta', `${SECRET}x`)) > 16);
  t.equal(await shared('beta', `${SECRET}y`, { cache_salt: 'own' }), 0);
  const off = await connect(t, ['--prefix-reuse', 'off']);
  await off('alpha', SECRET);
  t.equal(await off('alpha', SECRET), 0);
});
