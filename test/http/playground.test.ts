/** The playground's script with a page and a server of the test. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/config.js';

interface KeyEvent {
  readonly key: string;
  readonly ctrlKey: boolean;
}

/** The parts of an element that the script uses. */
class Element {
  textContent = '';
  value = '';
  disabled = false;
  children: unknown[] = [];
  readonly #listeners = new Map<string, (event: unknown) => unknown>();

  get options(): unknown[] {
    return this.children;
  }
  replaceChildren(...children: unknown[]): void {
    this.children = children;
  }
  addEventListener(type: string, listener: (event: unknown) => unknown): void {
    this.#listeners.set(type, listener);
  }
  requestSubmit(): void {
    this.fire('submit', { preventDefault: () => undefined });
  }
  fire(type: string, event: unknown = {}): void {
    this.#listeners.get(type)?.(event);
  }
}

/** A stream that the test writes. */
interface Stream {
  readonly say: (event: object | string) => void;
  readonly end: () => void;
  readonly breakOff: () => void;
}

type Answer = (signal: AbortSignal) => Response;

const models = (): Response => Response.json({ data: [{ id: 'fake', exit_layer: null }] });
const delta = (content: string) => ({ choices: [{ delta: { content } }] });
const report = { exit_layers: { 30: 1 }, met: null, predicted_ms: 1, actual_ms: 1, ttft_ms: 1 };

function streamed(): { stream: Stream; answer: Answer } {
  const encoder = new TextEncoder();
  const out = new TransformStream<Uint8Array, Uint8Array>();
  const writer = out.writable.getWriter();
  const stop = (reason: unknown): void => void writer.abort(reason).catch(() => undefined);
  return {
    stream: {
      say: (event) => {
        const data = typeof event === 'string' ? event : JSON.stringify(event);
        void writer.write(encoder.encode(`data: ${data}\n\n`)).catch(() => undefined);
      },
      end: () => void writer.close(),
      breakOff: () => {
        stop(new TypeError('network error'));
      },
    },
    answer: (signal) => {
      signal.addEventListener('abort', () => {
        stop(signal.reason);
      });
      return new Response(out.readable, { status: 200 });
    },
  };
}

let loaded = 0;

/** Loads the script into a new page. @param answers responses to generation requests, one after the other */
async function open(t: Test, answers: readonly Answer[], lists: readonly (() => Response)[] = [models]) {
  const ids = [
    'form',
    'prompt',
    'model',
    'budget',
    'budget-text',
    'tokens',
    'key',
    'stop',
    'answer',
    'error',
    'report',
  ];
  const elements = new Map(ids.map((id) => [id, new Element()]));
  const element = (id: string): Element => {
    const found = elements.get(id);
    if (found === undefined) throw new Error(`the page has no #${id}`);
    return found;
  };
  const asked = [...answers];
  const listed = [...lists];
  const fetch = (url: string, init: { signal?: AbortSignal } = {}): Promise<Response> => {
    if (url === 'v1/models') return Promise.resolve((listed.length > 1 ? listed.shift() : listed[0])?.() ?? models());
    const answer = asked.shift();
    if (answer === undefined || init.signal === undefined) return Promise.reject(new TypeError('Failed to fetch'));
    return Promise.resolve(answer(init.signal));
  };
  t.intercept(globalThis, 'fetch', { value: fetch });
  const page = { getElementById: element, createElement: () => new Element() };
  Object.assign(globalThis, { document: page, Option: Element });
  loaded += 1;
  await import(`${pathToFileURL(join(packageRoot, 'src', 'web', 'playground.js')).href}?${loaded}`);
  return {
    element,
    send: () => {
      element('form').requestSubmit();
    },
  };
}

/** Runs the event loop until all pending work is done. No test here waits for a clock. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

void t.test('an answer comes piece by piece, then its report; the stop button works only in between', async (t) => {
  const { stream, answer } = streamed();
  const { element, send } = await open(t, [answer]);
  send();
  stream.say(delta('Pa'));
  await settled();
  t.equal(element('answer').textContent, 'Pa');
  t.equal(element('stop').disabled, false);
  stream.say({ ...delta('ris'), sortie: report });
  stream.say('[DONE]');
  await settled();
  t.equal(element('answer').textContent, 'Paris');
  t.equal(element('report').children.length, 8);
  t.equal(element('stop').disabled, true);
  t.equal(element('error').textContent, '');
});

void t.test('the partial text of an answer stays beside the error that ends it', async (t) => {
  const ends: readonly [string, (stream: Stream) => void, string | RegExp][] = [
    [
      'an error event',
      ({ say }) => {
        say({ error: { message: 'The server ends.' } });
      },
      'The server ends.',
    ],
    [
      'a connection that breaks',
      ({ breakOff }) => {
        breakOff();
      },
      'network error',
    ],
    [
      'a connection that is closed early',
      ({ end }) => {
        end();
      },
      /mid-stream/,
    ],
  ];
  for (const [name, end, message] of ends) {
    const { stream, answer } = streamed();
    const { element, send } = await open(t, [answer]);
    send();
    stream.say(delta('Paris is'));
    await settled();
    end(stream);
    await settled();
    t.equal(element('answer').textContent, 'Paris is', name);
    t.match(element('error').textContent, message, name);
    t.equal(element('stop').disabled, true, name);
  }
});

void t.test('a stopped answer is not an error', async (t) => {
  const { stream, answer } = streamed();
  const { element, send } = await open(t, [answer]);
  send();
  stream.say(delta('Paris'));
  await settled();
  element('stop').fire('click');
  await settled();
  t.equal(element('answer').textContent, 'Paris');
  t.equal(element('error').textContent, '');
  t.equal(element('stop').disabled, true);
});

void t.test('the next answer replaces the one in progress, its report and its error', async (t) => {
  const first = streamed();
  const second = streamed();
  const refused = () => Response.json({ error: { message: 'no' } }, { status: 400 });
  const { element, send } = await open(t, [first.answer, second.answer, refused]);
  send();
  first.stream.say(delta('one'));
  await settled();
  send();
  second.stream.say({ ...delta('two'), sortie: report });
  await settled();
  t.equal(element('answer').textContent, 'two');
  t.equal(element('stop').disabled, false, 'the end of the first answer does not end the second');
  second.stream.say('[DONE]');
  await settled();
  send();
  await settled();
  t.equal(element('answer').textContent, '');
  t.equal(element('error').textContent, 'no');
  t.same(element('report').children, [], 'the report of the earlier answer is gone');
});

void t.test('the error of a proxy that is not JSON shows as its status', async (t) => {
  const { element, send } = await open(t, [() => new Response('<html>', { status: 502 })]);
  send();
  await settled();
  t.equal(element('error').textContent, 'HTTP 502');
});

void t.test('the error of a replaced answer is not shown', async (t) => {
  const body = new TransformStream<Uint8Array, Uint8Array>();
  const refused: Answer = (signal) => {
    signal.addEventListener('abort', () => void body.writable.abort(signal.reason).catch(() => undefined));
    return new Response(body.readable, { status: 503 });
  };
  const { stream, answer } = streamed();
  const { element, send } = await open(t, [refused, answer]);
  send();
  await settled();
  send();
  stream.say(delta('Paris'));
  await settled();
  t.equal(element('answer').textContent, 'Paris');
  t.equal(element('error').textContent, '');
});

void t.test('a send lists the depths that could not be listed at first', async (t) => {
  const loading = () => Response.json({ error: { message: 'loading' } }, { status: 503 });
  const { answer } = streamed();
  const { element, send } = await open(t, [answer], [loading, models]);
  t.equal(element('model').options.length, 0);
  send();
  await settled();
  t.equal(element('model').options.length, 1);
});

void t.test('Ctrl and Enter in the message send it; Enter alone does not', async (t) => {
  const { stream, answer } = streamed();
  const { element } = await open(t, [answer]);
  const press = (event: KeyEvent): void => {
    element('prompt').fire('keydown', event);
  };
  press({ key: 'Enter', ctrlKey: false });
  await settled();
  t.equal(element('stop').disabled, false, 'the initial state of the page');
  press({ key: 'Enter', ctrlKey: true });
  stream.say(delta('Paris'));
  await settled();
  t.equal(element('answer').textContent, 'Paris');
});
