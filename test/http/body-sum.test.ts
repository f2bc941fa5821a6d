/** The sum of bodies that have not arrived in full is bounded, by client. */
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { build } from '../fakes/server.js';

void t.test('unfinished bodies of a client are bounded in sum, and free their bytes when they leave', async (t) => {
  const server = await build(t, undefined, { options: { maxBody: 4096, trustedProxies: ['127.0.0.1'] } });
  const begin = async (address: string) => {
    const socket = connect(server.port, '127.0.0.1');
    await once(socket, 'connect');
    const head = `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${address}\r\n`;
    socket.write(`${head}Content-Type: application/json\r\nContent-Length: 4096\r\n\r\n{`);
    return socket;
  };
  const open = await Promise.all(Array.from({ length: 16 }, () => begin('10.0.0.1')));
  t.teardown(() => {
    for (const socket of open) socket.destroy();
  });
  const ask = (address: string) => server.post('/v1/completions', { prompt: 'x' }, { 'x-forwarded-for': address });
  const refusedOr = async (status: number) => {
    for (let tries = 0; tries < 200 && (await ask('10.0.0.1')).status !== status; tries++) await ask('10.0.0.9');
    return ask('10.0.0.1');
  };
  const rejected = await refusedOr(503);
  t.equal(rejected.status, 503);
  t.equal(rejected.headers.get('retry-after'), '1');
  t.match(await rejected.json(), { error: { code: 'overloaded', message: /65536 bytes are on their way/ } });
  t.equal((await ask('10.0.0.2')).status, 200, 'another client has room');
  open[0]?.destroy();
  t.equal((await refusedOr(200)).status, 200);
});
