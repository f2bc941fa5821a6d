/** A process with a fake engine whose answers have as many tokens as their requests allow. It writes its port. */
import { build, tokenizer } from './server.js';

const MOST_TOKENS = 8000;
const [word = 0] = tokenizer.encode(' word', false);
const tokens = Array<number>(MOST_TOKENS).fill(word);

const server = await build({ teardown: () => undefined }, () => ({ tokens }), {
  limits: { maxTokensDefault: null },
  options: { trustedProxies: ['127.0.0.1'] },
});
const { ready } = server.engine;
if (ready !== null) server.engine.ready = { ...ready, maxLength: 8192 };
process.send?.(server.port);
