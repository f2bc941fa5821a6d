/** A client that reads more slowly than its answer grows. */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { build, tokenizer } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Count' }];

interface Chunk {
  readonly choices: readonly { readonly index: number; readonly delta: { readonly content?: string } }[];
}

async function until(what: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1000 && !what(); tries++) await delay(5);
}

void t.test('while a client does not read, pieces grow, and a stop string still ends the sequence', async (t) => {
  const words = Array.from({ length: 150 }, (_, n) => ` word${n}`).join('');
  const server = await build(t, () => ({ tokens: tokenizer.encode(`${words} stop here`, false) }), {
    limits: { maxTokensDefault: 2000 },
  });
  const ready = server.engine.ready;
  if (ready !== null) server.engine.ready = { ...ready, maxLength: 4096 };
  const body = JSON.stringify({
    ...{ messages, stream: true, n: 8, max_tokens: 2000, logprobs: true, top_logprobs: 20, stop: ' stop' },
  });
  const socket = net.connect(server.port, '127.0.0.1');
  socket.pause();
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  await until(() => server.engine.cancelled.length === 8);
  t.equal(server.engine.cancelled.length, 8, 'the stop string was found in all choices');
  const [[response] = []] = [...server.app.inFlightResponses];
  const unsent = response?.writableLength ?? 0;
  let text = '';
  socket.on('data', (data: Buffer) => (text += data.toString()));
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
  const events = text.match(/^data: \{.*$/gm) ?? [];
  t.match(text, /\[DONE\]/);
  const said = events.map((line) => JSON.parse(line.slice('data: '.length)) as Chunk);
  for (let index = 0; index < 8; index++) {
    const parts = said.flatMap(({ choices }) => choices.filter((choice) => choice.index === index));
    t.equal(parts.map(({ delta }) => delta.content ?? '').join(''), words, `choice ${index}`);
  }
  t.ok(unsent < text.length / 2, `${unsent} of ${text.length} bytes were written before the client read`);
});
