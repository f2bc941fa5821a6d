/** The faults of bench:never-late: their shares, and what a client meets of each. */
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ask } from '../../bench/loadgen/ask.js';
import { FAULTS, faultOf, type Mix } from '../../bench/never-late/faults.js';
import { freePort } from '../../bench/ports.js';
import { serverAt } from '../../bench/remote/server.js';
import { startServer } from '../../bench/server.js';
import { build, says } from '../fakes/server.js';
import { closedTimes, openTimes, type Side } from '../../bench/proxy-overhead/load.js';
import { openStreams } from '../../bench/proxy-overhead/streams.js';

void t.test('a mix has its shares of faults', (t) => {
  const draws = Array.from({ length: 1000 }, (_, index) => faultOf('mixed', (index + 0.5) / 1000));
  const count = (fault: (typeof FAULTS)[number] | null) => draws.filter((each) => each === fault).length;
  t.same(FAULTS.map(count), [100, 80, 40, 40, 40, 0]);
  t.equal(count(null), 700);
  t.equal(faultOf('none', 0), null);
  t.equal(faultOf('outage', 0.999), 'down');
  t.end();
});

const program = fileURLToPath(new URL('../../bench/never-late/faulty-server.js', import.meta.url));

void t.test('the process with faults passes answers, and breaks them as its mix says', async (t) => {
  const there = await build(t, says('One two.'));
  const asked = {
    path: '/chat/completions',
    body: { messages: [{ role: 'user', content: 'Count.' }], max_tokens: 9 },
  } as const;
  const through = async (mix: Mix) => {
    const port = await freePort();
    const server = await startServer(
      [process.execPath, program, String(port), there.url, mix, '1'],
      '/v1/models',
      port,
    );
    t.teardown(server.stop);
    return ask(serverAt(server.url, null), 'fake', asked);
  };
  t.match(await through('none'), { text: 'One two.', error: null, finishReason: 'stop' });
  t.match(await through('outage'), { text: '', error: { kind: 'connection lost' } });
});

// The sides of bench:proxy-overhead, with its mock as upstream and as a server that is measured.

async function mock(t: Test, events: number, gapMs: number): Promise<Side & { readonly pid: number }> {
  const program = fileURLToPath(new URL('../../bench/proxy-overhead/mock.js', import.meta.url));
  const port = await freePort();
  const command = [process.execPath, program, String(port), String(events), String(gapMs)];
  const { url, pid, stop } = await startServer(command, '/', port);
  t.teardown(stop);
  return { name: 'mock', url, pid, model: 'mock', headers: {} };
}

void t.test('closed and open loops time each request', async (t) => {
  const side = await mock(t, 3, 0);
  const closed = await closedTimes(side, 4, 200);
  t.ok(closed.firstP50 > 0 && closed.firstP50 <= closed.p50 && closed.p50 <= closed.p99);
  t.equal(closed.failed, 0);
  t.ok(closed.perSecond > 0);
  t.ok(closed.cpuMs >= 0 && closed.cpuMs < 1000, `${closed.cpuMs} ms`);
  const open = await openTimes(side, 200, 20, 1);
  t.ok(open.p50 > 0 && open.perSecond < 400, `${open.perSecond} requests/s`);
  const { url } = await build(t);
  t.match(await closedTimes({ ...side, url, model: 'none' }, 1, 3), { failed: 3, perSecond: 0 });
});

void t.test('open streams are counted, and lost ones', async (t) => {
  const side = await mock(t, 4, 700);
  const whole = await openStreams(side, side.pid, 60);
  t.equal(whole.lost, 0);
  t.ok(whole.idleMb > 0 && whole.mostMb >= whole.lastMb && whole.lastMb > 0, JSON.stringify(whole));
  t.match(await openStreams({ ...side, url: 'http://127.0.0.1:9' }, side.pid, 2), { lost: 2 });
});
