/** A process with a fake engine whose answers have as many tokens as their requests allow. It writes its port. */
import { build, tokenizer } from './server.js';
import { upstream } from './upstream.js';

const { SORTIE_TEST_UPSTREAM: url = '' } = process.env;
const MOST_TOKENS = 8000;
const [word = 0] = tokenizer.encode(' word', false);
const tokens = Array<number>(MOST_TOKENS).fill(word);

const server = await build({ teardown: () => undefined }, () => ({ tokens }), {
  limits: { maxTokensDefault: null },
  options: { trustedProxies: ['127.0.0.1'] },
  ...(url !== '' && { upstreams: [{ ...upstream, url: new URL(url) }] }),
});
const { ready } = server.engine;
if (ready !== null) server.engine.ready = { ...ready, maxLength: 8192 };
process.send?.(server.port);
