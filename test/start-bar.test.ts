/** The bar of a slow load. */
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { LoadProgress } from '../src/gateway/serve/start-bar.js';
import { FakeEngine, READY } from './fakes/engine.js';
import { movedClock } from './support/moved-clock.js';
import { until } from './support/until.js';

function terminal(): { stream: NodeJS.WritableStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), {
    ...{ isTTY: true, columns: 80, cursorTo: () => true, clearLine: () => true, moveCursor: () => true },
  });
  let text = '';
  stream.on('data', (data: Buffer) => (text += data.toString()));
  return { stream, text: () => text };
}

void t.test('a load of more than a second shows its share, and nothing after the end', async (t) => {
  movedClock(t);
  const engine = new FakeEngine(() => ({ tokens: [] }));
  const { stream, text } = terminal();
  const progress = new LoadProgress(engine, stream);
  progress.start();
  engine.emit('loading', 1, 4);
  t.equal(text(), '', 'nothing in the first second');
  await until('shown', () => /loading the model .* 25%/.test(text()));
  engine.emit('loading', 4, 4);
  await until('shown', () => /measuring steps, checking files .* 100%/.test(text()));
  engine.emit('ready', READY);
  const ended = text();
  engine.emit('loading', 1, 4);
  await delay(200);
  t.equal(text(), ended);
});

void t.test('a short load shows nothing', async (t) => {
  movedClock(t);
  const engine = new FakeEngine(() => ({ tokens: [] }));
  const { stream, text } = terminal();
  new LoadProgress(engine, stream).start();
  engine.emit('loading', 1, 4);
  engine.emit('ready', READY);
  await delay(1200);
  t.equal(text(), '');
});
