/** Instants of the event loop's turns. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { monotonicMs, turnStartedAt } from '../../src/util/clock.js';

void t.test('an input that waited for the end of a turn has the start of that turn', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').setNoDelay();
  const [socket] = await accepted;
  t.teardown(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  const starts: number[] = [];
  socket.on('data', () => {
    starts.push(turnStartedAt());
    if (starts.length > 1) return;
    client.write('2');
    const until = monotonicMs() + 20;
    while (monotonicMs() < until);
  });
  client.write('1');
  while (starts.length < 2) await delay(5);
  t.equal(starts[1], starts[0]);
  await delay(20);
  client.write('3');
  while (starts.length < 3) await delay(5);
  t.ok((starts[2] ?? 0) >= (starts[1] ?? Infinity) + 20, 'a loop that waits for input begins a turn with it');
});
