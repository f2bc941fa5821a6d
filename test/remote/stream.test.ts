/** Streams of other servers: their forms, their ends and their failures. */
import t from 'tap';
import { RemoteError } from '../../bench/remote/server-error.js';
import { chooseModel, serverAt } from '../../bench/remote/server.js';
import { type Asked, eventData, type Part, streamAnswer } from '../../bench/remote/stream.js';
import { closedUrl, jsonAnswer, plainServer, type PlainAnswer, rawAnswer } from '../fakes/upstream.js';
import { until } from '../support/until.js';

const QUESTION: Asked = { path: '/chat/completions', body: { messages: [{ role: 'user', content: 'Hi' }] } };

async function partsOf(stream: AsyncIterable<Part>): Promise<Part[]> {
  const parts: Part[] = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

void t.test('the base URL is the one of the clients of OpenAI', async (t) => {
  for (const [url, baseUrl] of [
    ['http://h:8000', 'http://h:8000/v1'],
    ['http://h:8000/', 'http://h:8000/v1'],
    ['http://h:8000/v1/', 'http://h:8000/v1'],
    ['https://h/api/openai', 'https://h/api/openai'],
    ['localhost:8080', 'http://localhost:8080/v1'],
  ] as const)
    t.equal(serverAt(url, null).baseUrl, baseUrl, url);
  for (const url of ['', 'ftp://h', 'http://h/v1?x=1', 'http://'])
    t.throws(() => serverAt(url, null), {
      message: new RegExp(`must be an http or https URL .* got "${url.replace('?', '.')}"`),
    });
});

void t.test('events end at an empty line, whatever the pieces and line ends', async (t) => {
  const text = ': ping\n\ndata: {"a":1}\r\n\r\ndata:b\nid: 7\ndata: c\n\ndata: é\n\ndata: last';
  const bytes = Buffer.from(text);
  for (const size of [1, 2, 7, 1000]) {
    const pieces = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
    };
    const found: string[] = [];
    for await (const data of eventData(pieces())) found.push(data);
    t.same(found, ['{"a":1}', 'b\nc', 'é', 'last'], `pieces of ${size}`);
  }
});

void t.test('a chat without any field of Sortie', async (t) => {
  const { url, requests } = await plainServer(t, () => ({ parts: ['Hel', 'lo'] }));
  const server = serverAt(url, 'secret');
  t.same(await chooseModel(server, null), { model: 'plain-7b', isSortie: false });
  const parts = await partsOf(streamAnswer(server, 'plain-7b', QUESTION, { headers: { 'x-a': 'b' } }));
  t.equal(parts.map(({ text }) => text).join(''), 'Hello');
  const outputs = parts.map(({ hasOutput }) => hasOutput);
  t.same(outputs, [false, true, true, false, false], 'the role alone, the end and the usage are not output');
  t.same([parts.at(3)?.finishReason, parts.at(4)?.tokens, parts.at(4)?.report], ['stop', 2, null]);
  const [request] = requests;
  t.match(request?.headers, { authorization: 'Bearer secret', 'x-a': 'b' });
  t.match(request?.body, { model: 'plain-7b', stream: true, stream_options: { include_usage: true } });
});

void t.test('every failure has a kind and a message', async (t) => {
  const events = (text: string): PlainAnswer => rawAnswer(200, 'text/event-stream', text);
  const cases: [PlainAnswer, string, RegExp][] = [
    [jsonAnswer(429, { error: { message: 'Too many.', code: 'queue_full' } }), '429 queue_full', /429: Too many\./],
    [jsonAnswer(400, { object: 'error', message: 'No such model', code: 400 }), '400', /No such model/],
    [jsonAnswer(422, { detail: 'Wrong field' }), '422', /Wrong field/],
    [jsonAnswer(500, { error: 'out of memory' }), '500', /out of memory/],
    [rawAnswer(502, 'text/html', '<h1>Bad Gateway</h1>'), '502', /Bad Gateway/],
    [jsonAnswer(200, { choices: [] }), 'no stream', /"application\/json" instead of text\/event-stream/],
    [events('data: {"error":{"message":"Lost.","code":"engine_lost"}}\n\n'), 'stream engine_lost', /^Lost\.$/],
    [events('data: {broken\n\n'), 'bad stream', /not JSON: \{broken/],
    [events('data: {"choices":[{"delta":{"content":"a"}}]}\n\n'), 'incomplete stream', /closed before/],
    [{ parts: ['a'], isBroken: true }, 'connection lost', /connection lost/],
  ];
  const { url } = await plainServer(t, (index) => cases[index]?.[0] ?? { parts: [] });
  for (const [, kind, message] of cases)
    await t.test(`${kind}: ${message.source}`, async (t) => {
      const failed = partsOf(streamAnswer(serverAt(url, null), 'm', QUESTION));
      await t.rejects(failed, { name: 'RemoteError', kind, message });
    });
  const closed = await closedUrl();
  const rejected = chooseModel(serverAt(closed, null), 'm');
  await t.rejects(
    rejected,
    new RemoteError('connection refused', `connection refused (${closed}/v1/models, ECONNREFUSED)`),
  );
  await t.rejects(chooseModel(serverAt('http://127.0.0.1:1', null), 'm'), { message: /connection lost .*bad port/ });
});

void t.test('a signal cancels an answer, and a time limit is another kind', async (t) => {
  const { url, left } = await plainServer(t, () => ({ parts: Array<string>(200).fill('a'), pace: 20 }));
  const server = serverAt(url, null);
  // The client ends each answer behind its first piece, so the server has seen both clients.
  const endedBy = async (reason?: DOMException): Promise<void> => {
    const end = new AbortController();
    for await (const { text } of streamAnswer(server, 'm', QUESTION, { signal: end.signal }))
      if (text !== '') end.abort(reason);
  };
  await t.rejects(endedBy(), new RemoteError('cancelled', 'cancelled'));
  const limit = new DOMException('The time limit is over', 'TimeoutError');
  await t.rejects(endedBy(limit), new RemoteError('timeout', 'the answer took longer than the limit'));
  await until('the server sees both clients leave', () => left.count === 2);
});

void t.test('a server without a list of models needs a stated one', async (t) => {
  const { url } = await plainServer(t, () => ({ parts: [] }));
  const server = serverAt(`${url}/other`, null);
  t.same(await chooseModel(server, 'mine'), { model: 'mine', isSortie: false });
  const error = await chooseModel(server, null).catch((reason: unknown) => reason);
  t.ok(error instanceof RemoteError);
  t.match(error, { kind: '404' });
});
