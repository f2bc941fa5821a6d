/** The faults of bench:never-late: their shares, and what a client meets of each. */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ask } from '../../bench/loadgen/ask.js';
import { FAULTS, faultOf, type Mix } from '../../bench/never-late/faults.js';
import { freePort } from '../../bench/ports.js';
import { serverAt } from '../../bench/remote/server.js';
import { startServer } from '../../bench/server.js';
import { build, says } from '../fakes/server.js';

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
