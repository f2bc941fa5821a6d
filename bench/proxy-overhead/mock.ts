/**
 * An upstream that streams an answer, as a process of its own: `node mock.js PORT EVENTS GAP_MS`. Without a gap it
 * answers at once, and its time is that of HTTP alone.
 */
import { createServer, type ServerResponse } from 'node:http';

const [port = '', events = '20', gap = '0'] = process.argv.slice(2);
const gapMs = Number(gap);
const HEAD = { id: 'chatcmpl-mock', object: 'chat.completion.chunk', created: 1, model: 'mock' };

const frame = (delta: object, finish_reason: string | null = null): string =>
  `data: ${JSON.stringify({ ...HEAD, choices: [{ index: 0, delta, finish_reason }] })}\n\n`;

const frames = [
  frame({ role: 'assistant', content: '' }),
  ...Array.from({ length: Number(events) }, (_, index) => frame({ content: `Word ${index}. ` })),
  frame({}, 'stop'),
  'data: [DONE]\n\n',
];

/** Writes the frames from one of them on. */
function write(response: ServerResponse, from: number): void {
  for (let at = from; at < frames.length; at++) {
    if (response.destroyed) return;
    response.write(frames[at]);
    // The end of the answer comes with the end of the body.
    if (gapMs === 0 || at > Number(events)) continue;
    setTimeout(() => {
      write(response, at + 1);
    }, gapMs);
    return;
  }
  response.end();
}

createServer((request, response) => {
  if (request.method !== 'POST') {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"object":"list","data":[{"id":"mock"}]}');
    return;
  }
  request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    write(response, 0);
  });
}).listen(Number(port), '127.0.0.1');
