/** Hostile and malformed requests: each gets a clear error. */
import t from 'tap';
import { build, exchange } from '../fakes/server.js';

void t.test('a body that is not UTF-8 is a 400', async (t) => {
  const server = await build(t);
  const send = (body: Buffer) =>
    server.get('/v1/completions', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  for (const bytes of ['ff', 'fe', 'c0af', 'eda0bdedb897', 'f4908080', 'e282']) {
    const body = Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from(bytes, 'hex'), Buffer.from('"}')]);
    t.match(await send(body), { status: 400, body: { error: { code: 'invalid_json', message: /UTF-8/ } } }, bytes);
  }
  t.equal((await send(Buffer.from('\ufeff{"prompt":"é🤗"}'))).status, 200);
});

void t.test('on a loopback address without keys, only local names and listed hosts are served', async (t) => {
  const ask = (port: number, host: string, path = '/v1/models'): Promise<string> =>
    exchange(port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  const local = await build(t, undefined, { options: { host: '127.0.0.1', allowedHosts: [], opsPort: 0 } });
  const opsPort = Number(new URL(local.opsUrl).port);
  const strangers = ['attacker.example', 'attacker.example:8080', '127.0.0.1.nip.io'];
  for (const port of [local.port, opsPort])
    for (const host of [...strangers, 'localhost.evil.example', 'a b.c'])
      t.match(await ask(port, host), /^HTTP\/1\.1 421 [^]*"param":"host","code":"host_not_allowed"/, host);
  const names = ['localhost', 'LOCALHOST:1', '127.0.0.1:80', '[::1]:80', '10.0.0.7', 'app.localhost', 'sortie:8080'];
  for (const host of [...names, 'host.docker.internal', 'localhost.'])
    t.match(await ask(local.port, host), /^HTTP\/1\.1 200 OK/, host);
  const withKeys = await build(t, undefined, { apiKeys: ['a'], options: { host: '127.0.0.1', opsPort: 0 } });
  t.match(await ask(withKeys.port, 'attacker.example'), /^HTTP\/1\.1 401 /, 'a key protects the main port');
  const keyedOps = Number(new URL(withKeys.opsUrl).port);
  t.match(await ask(keyedOps, 'attacker.example', '/metrics'), /^HTTP\/1\.1 421 /, 'and not the operations port');
  t.match(await ask(keyedOps, 'localhost', '/metrics'), /^HTTP\/1\.1 200 OK/);
  const listed = await build(t, undefined, { options: { host: '0.0.0.0', allowedHosts: ['api.example.com'] } });
  t.match(await ask(listed.port, 'API.example.com:443'), /^HTTP\/1\.1 200 OK/);
  t.match(await ask(listed.port, 'evil.example.com'), /^HTTP\/1\.1 421 /);
  const open = { host: '127.0.0.1', allowedHosts: ['*'] };
  t.match(await ask((await build(t, undefined, { options: open })).port, 'a.example'), /^HTTP\/1\.1 200 OK/);
  const container = await build(t);
  t.match(await ask(container.port, 'a.example'), /^HTTP\/1\.1 200 OK/, 'another address');
  const keyed = await build(t, undefined, { apiKeys: ['sesame'], options: { host: '127.0.0.1' } });
  t.match(await ask(keyed.port, 'a.example', '/health'), /^HTTP\/1\.1 200 OK/, 'with keys');
});

/** A body of this size whose prompt repeats a piece. */
const filled = (open: string, piece: string, close: string, size = 4e6): string =>
  open + piece.repeat(Math.floor((size - open.length - close.length) / piece.length)) + close;

const HUGE: Readonly<Record<string, readonly [body: string, message: RegExp]>> = {
  brackets: ['['.repeat(2e6) + ']'.repeat(2e6), /nested at most 100 deep/],
  'brackets in a field': [`{"prompt":${'['.repeat(2e6)}${']'.repeat(2e6)}}`, /nested at most 100 deep/],
  objects: [`${'{"a":'.repeat(6e5)}1${'}'.repeat(6e5)}`, /nested at most 100 deep/],
  'empty lists': [filled('{"prompt":[', '[],', '[]]}'), /at most 50000 objects and arrays/],
  'empty objects': [filled('{"x":[', '{},', '{}]}'), /at most 50000 objects and arrays/],
  numbers: [filled('{"prompt":[', '0,', '0]}'), /at most 300000 commas/],
  keys: [`{"x":{${Array.from({ length: 4e5 }, (_, i) => `"k${i}":1`).join(',')}}}`, /at most 300000 commas/],
  text: [filled('{"prompt":"', 'word ', '"}'), /maximum context length/],
  quotes: [filled('{"prompt":"', '\\"', '"}'), /maximum context length/],
  lines: [filled('', '\n', '{'), /not valid JSON/],
  'unknown characters': [filled('{"prompt":"', '🤗', '"}', 2e6), /maximum context length/],
};

void t.test('huge and deep bodies are rejected by their counts, and small ones are served after them', async (t) => {
  const server = await build(t, undefined, { options: { maxBody: 8 << 20 } });
  const headers = { 'content-type': 'application/json' };
  for (const [name, [text, message]] of Object.entries(HUGE)) {
    const answer = await server.get('/v1/completions', { method: 'POST', headers, body: Buffer.from(text) });
    t.match(answer, { status: 400, body: { error: { message } } }, name);
  }
  t.equal((await server.ask('/v1/completions', { prompt: 'a' })).status, 200);
});
