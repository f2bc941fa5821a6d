/** A thousand connections with half a request each. test/http/lifetime has clients that never read. */
import t from 'tap';
import { memoryOf, openFiles, post, raw, serve, tinyModel, untilIdle } from './helper.js';
import { until } from '../support/until.js';

const CONNECTIONS = 1000;
const model = tinyModel(t.testdir());
const head = 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
const HALVES = [
  head,
  'GET /v1/mod',
  `${head}Content-Length: 50\r\n\r\n{"prompt": "Once`,
  `${head}Transfer-Encoding: chunked\r\n\r\n10\r\n{"prompt": "Once`,
];

void t.test('half requests get a 408 and a close, others are served, and memory is released', async (t) => {
  const server = await serve(t, model, ['--request-timeout', '3']);
  const before = openFiles(server);
  const used: number[] = [];
  for (let round = 0; round < 2; round++) {
    const connections = Array.from({ length: CONNECTIONS }, (_, i) => raw(t, server, HALVES[i % HALVES.length] ?? ''));
    // On a busy machine the first ones time out before the last ones are accepted.
    let over = 0;
    for (const { closed } of connections) void closed.then(() => over++);
    await until('all were connected', () => openFiles(server) + over >= before + CONNECTIONS);
    for (let i = 0; i < 10; i++) {
      const response = await post(server, '/v1/completions', { prompt: 'a', max_tokens: 4 });
      t.equal(response.status, 200, 'served meanwhile');
      await response.text();
    }
    const answers = await Promise.all(connections.map(({ closed }) => closed));
    // The last kind has no length, so the server has no room for all of them at once.
    const isRight = (text: string, i: number): boolean =>
      text.startsWith('HTTP/1.1 408 ') || (i % 4 === 3 && text.startsWith('HTTP/1.1 503 '));
    t.equal(answers.filter(isRight).length, CONNECTIONS, 'each gets a 408, or a 503 without a length');
    await until('sockets return', () => openFiles(server) <= before + 2);
    used.push(memoryOf(server));
  }
  // The heap grows to its size in the first round.
  const [first = NaN, last = NaN] = used;
  t.ok(last - first < 40, `memory after each round: ${used.map((mb) => mb.toFixed(0)).join(', ')} MB`);
  await untilIdle(server);
});
