/** `sortie chat` through a pipe and on a terminal, with the gateway and with a server without any field of Sortie. */
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { noteOf } from '../../src/chat/chat-answer.js';
import { chatCommand } from '../../src/chat/chat-command.js';
import { closedUrl, plainServer } from '../fakes/plain-server.js';
import { build, says } from '../fakes/server.js';
import { until } from '../support/until.js';

/** The text of a stream so far. */
function reader(stream: PassThrough): () => string {
  let text = '';
  stream.on('data', (data: Buffer) => (text += data.toString()));
  return () => text;
}

/** Chats through pipes: each line is a question. */
async function piped(url: string, lines: readonly string[]) {
  const [input, output, errors] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const [text, notes] = [reader(output), reader(errors)];
  input.end(lines.map((line) => `${line}\n`).join(''));
  const isComplete = await chatCommand({ url, model: null, apiKey: null }, { input, output, errors });
  return { text: text(), notes: notes().trimEnd().split('\n'), isComplete };
}

/** Chats on a terminal. `type` sends keys as a terminal in raw mode does. */
function typed(url: string, hasColors = false) {
  const terminal = { isTTY: true, columns: 80, rows: 24, hasColors: () => hasColors };
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => input });
  const output = Object.assign(new PassThrough(), terminal);
  const errors = Object.assign(new PassThrough(), terminal);
  const [text, notes] = [reader(output), reader(errors)];
  const ended = chatCommand({ url, model: null, apiKey: null }, { input, output, errors });
  return { type: (keys: string) => input.write(keys), text, notes, ended };
}

void t.test(
  'through a pipe each line is a question of one conversation, and only answers are on the output',
  async (t) => {
    const { url, engine } = await build(t, says('Paris.', { exits: [10, 30] }));
    const { text, notes, isComplete } = await piped(url, [
      'What is the capital of France?',
      '/budget 5000',
      '/exit-layer 15',
      '/system Be brief.',
      '',
      '  And of Italy?  ',
      '/budget off',
      '/exit off',
      '/reset',
      '/system off',
      'Hello',
      '/quit',
      'never asked',
    ]);
    t.equal(text, 'Paris.\nParis.\nParis.\n');
    t.equal(isComplete, true);
    t.match(notes[0], /^exits 30: \d, 10: 1 · \d tokens in \d+ ms · first after \d+ ms$/);
    t.match(notes[4], /^exit 15: |^exits? .* · budget 5000 ms met · guaranteed$/);
    const [first, second, third, ...rest] = engine.requests;
    t.equal(rest.length, 0);
    t.match(first?.depth, { budget: null, minExit: 10, maxExit: 30 });
    t.match(second?.depth, { budget: { totalMs: 5000 }, minExit: 15, maxExit: 15 });
    t.match(third?.depth, { budget: null, maxExit: 30 });
    t.ok((second?.prompt.length ?? 0) > (first?.prompt.length ?? Infinity), 'the second has the turns of the first');
    t.ok((third?.prompt.length ?? Infinity) < (first?.prompt.length ?? 0), 'the third has none');
  },
);

void t.test('faults are said, end no pipe, and count in the exit code', async (t) => {
  const { url, engine } = await build(t, says('Yes.'));
  for (const [line, note] of [
    ['/budget soon', '/budget must be a number of ms above 0, or off, got "soon".'],
    ['/budget 0', '/budget must be a number of ms above 0, or off, got "0".'],
    ['/exit-layer 12', '/exit-layer must be one of 10, 15, 20, 25, 30, or off, got "12".'],
    ['/nothing', 'There is no command /nothing; /help lists the commands.'],
  ] as const) {
    const { text, notes, isComplete } = await piped(url, [line, 'Hi']);
    t.same([text, notes[0], isComplete], ['Yes.\n', note, false]);
  }
  engine.script = () => ({ tokens: [], reject: { reason: 'queue_full', detail: '' } as never });
  const { text, notes, isComplete } = await piped(url, ['Hi', '/help']);
  t.same([text, isComplete], ['', false]);
  t.match(notes.join('\n'), /^429: [^]*\/exit-layer LAYER/);
  await t.rejects(piped(await closedUrl(), ['Hi']), { message: /^connection refused/ });
});

void t.test('any server: the time without depth, and a budget that only the chat compares', async (t) => {
  const { url, requests } = await plainServer(t, () => ({ parts: ['Hel', 'lo\u001b[31m\u0007!'], pace: 20 }));
  const { text, notes, isComplete } = await piped(url, [
    '/exit-layer 10',
    '/budget 1',
    'Hi',
    '/budget 60000',
    'Hi again',
  ]);
  t.equal(text, 'Hello[31m!\nHello[31m!\n', 'no control character of the model reaches the terminal');
  t.equal(notes[0], 'This server has no exit layers.');
  t.match(notes[1], /takes no budgets, so the chat only compares the time/);
  t.match(notes[2], /^2 tokens in \d+ ms · first after \d+ ms · budget 1 ms missed$/);
  t.match(notes[4], /budget 60.0 s met$/);
  t.equal(isComplete, false);
  t.notOk(requests.some(({ headers }) => 'x-latency-budget-ms' in headers));
  const found = requests[1]?.body.messages?.map(({ role, content }) => [role, content]);
  t.same(found, [
    ['user', 'Hi'],
    ['assistant', 'Hello\u001b[31m\u0007!'],
    ['user', 'Hi again'],
  ]);
});

void t.test('on a terminal Ctrl+C cancels the answer, and Ctrl+D leaves', async (t) => {
  const { url, requests, left } = await plainServer(t, (_, index) =>
    index === 0 ? { parts: Array<string>(500).fill('a '), pace: 10 } : { parts: ['Second.'] },
  );
  const chat = typed(url);
  await until('shown', () => chat.text().includes('> '));
  t.match(chat.notes(), /^plain-7b at http.*\/help lists the commands/);
  chat.type('count\r');
  await until('shown', () => chat.text().includes('a a a'));
  chat.type('\u0003');
  await until('noted', () => chat.notes().includes('cancelled · '));
  await until('left', () => left.count === 1);
  chat.type('half a li\u0003');
  await sleep(50);
  chat.type('again\r');
  await until('shown', () => chat.text().includes('Second.'));
  t.equal(requests.length, 2, 'the cleared line is not sent');
  t.match(requests[1]?.body.messages, [{ content: 'count' }, { content: /^a a a/ }, { content: 'again' }]);
  await until('noted', () => chat.notes().includes('1 token in'));
  chat.type('\u0003');
  await until('noted', () => chat.notes().includes('Ctrl+D or /quit leaves.'));
  const before = chat.text().length;
  chat.type('\u001b[A');
  await until('shown', () => chat.text().slice(before).includes('again'));
  chat.type('\u0003\u0004');
  t.equal(await chat.ended, true);
  t.notMatch(chat.text(), '\u001b[2m', 'a terminal without colours has none');
});

void t.test('on a terminal the text has the colour of its exit', async (t) => {
  const { url, engine } = await build(t, says('Paris is the capital.', { exits: [10, 10, 30, 30, 30, 30] }));
  const chat = typed(url, true);
  await until('shown', () => chat.text().includes('> '));
  chat.type('Hi\r');
  await until('noted', () => chat.notes().includes('first after'));
  t.match(chat.text(), /\u001b\[38;5;221mParis.*\u001b\[38;5;105m/, 'from the colour of the shallowest to the deepest');
  chat.type('/quit\r');
  t.equal(await chat.ended, true);
  t.equal(engine.requests.length, 1);
});

void t.test('Ctrl+D during an answer cancels it and leaves', async (t) => {
  const { url, left } = await plainServer(t, () => ({ parts: Array<string>(500).fill('a '), pace: 10 }));
  const chat = typed(url);
  await until('shown', () => chat.text().includes('> '));
  chat.type('count\r');
  await until('shown', () => chat.text().includes('a a a'));
  chat.type('\u0004');
  t.equal(await chat.ended, true);
  await t.resolves(until('left', () => left.count === 1));
});

void t.test('the note says a cut, and one exit without its count', async (t) => {
  const facts = {
    tokens: 60,
    firstMs: 80.4,
    totalMs: 12_345,
    exits: { 30: 60 },
    report: null,
    budgetMs: null,
    isCut: true,
  };
  t.equal(noteOf(facts), 'exit 30 · 60 tokens in 12.3 s · first after 80 ms · cut at the longest length');
  t.match(noteOf({ ...facts, budgetMs: 12_000 }), /budget 12.0 s missed · cut at its deadline or the longest length$/);
});

void t.test('the note says how an answer of an upstream model ends', async (t) => {
  const report = { actual_ms: 900, budget_ms: 1000, met: true, landed: null } as const;
  const facts = { tokens: 9, firstMs: 80, totalMs: 950, exits: null, budgetMs: 1000, isCut: false };
  const note = (more: object): string => noteOf({ ...facts, report: { ...report, ...more } });
  t.match(note({ source: 'upstream' }), /first after 80 ms · budget 1000 ms met$/);
  t.match(note({ source: 'upstream-landed', landed: { characters: 5 } }), /met · landed$/);
  t.match(note({ source: 'local' }), /met · by the local model$/);
});

void t.test('the note says the reason of a shallow exit, and a landing', async (t) => {
  const plan = { serviceClass: 'best_effort', exit: 15, reason: 'load' } as const;
  const landed = { at: 2, pressure: 3, probability: 0.1 };
  const { url } = await build(t, says('Paris.', { exits: [15, 15], plan, ended: { landed } }));
  const { notes } = await piped(url, ['/budget 5000', 'Where?']);
  t.match(
    notes[1],
    /^exit 15 · shallow for other requests · 2 tokens in .* · budget 5000 ms met · landed · best effort$/,
  );
});
