/**
 * An upstream that streams an answer at once, as a process of its own: `node mock.js PORT EVENTS`. Its time is that of
 * HTTP alone.
 */
import { createServer } from 'node:http';

const [port = '', events = '20'] = process.argv.slice(2);
const HEAD = { id: 'chatcmpl-mock', object: 'chat.completion.chunk', created: 1, model: 'mock' };

const frame = (delta: object, finish_reason: string | null = null): string =>
  `data: ${JSON.stringify({ ...HEAD, choices: [{ index: 0, delta, finish_reason }] })}\n\n`;

const frames = [
  frame({ role: 'assistant', content: '' }),
  ...Array.from({ length: Number(events) }, (_, index) => frame({ content: `Word ${index}. ` })),
  frame({}, 'stop'),
  'data: [DONE]\n\n',
];

createServer((request, response) => {
  if (request.method !== 'POST') {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"object":"list","data":[{"id":"mock"}]}');
    return;
  }
  request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const each of frames) response.write(each);
    response.end();
  });
}).listen(Number(port), '127.0.0.1');
