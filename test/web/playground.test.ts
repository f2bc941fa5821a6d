/** The playground in Debian's Chromium, with the fake engine: its views, keys, names for screen readers, policy. */
import t, { type Test } from 'tap';
import { missing } from '../deploy/helper.js';
import { openBrowser, type Page } from '../fakes/browser.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build, chatTemplate, says, tokenizer, type Overrides } from '../fakes/server.js';
import type { FakeEngine } from '../fakes/engine.js';
import { answers, begin, say, scriptedUpstream, upstream, type UpstreamScript } from '../fakes/upstream.js';

const view = (name: string, run: (t: Test) => Promise<void>): void =>
  void t.test(name, { skip: missing('chromium') }, run);
const answer = 'Paris is the capital of France.';

async function open(t: Test, script: FakeEngine['script'], overrides: Overrides = {}, view = '') {
  const server = await build(t, script, overrides);
  const page = await openBrowser(t);
  await page.show(1280, 'light');
  await page.send('Page.navigate', { url: `${server.url}/${view}` });
  await page.until("document.readyState === 'complete' && document.getElementById('served').textContent !== ''");
  return { server, page };
}

const text = (page: Page, selector: string): Promise<string> =>
  page.evaluate<string>(`document.querySelector(${JSON.stringify(selector)}).textContent`);
const count = (page: Page, selector: string): Promise<number> =>
  page.evaluate<number>(`document.querySelectorAll(${JSON.stringify(selector)}).length`);
const click = (page: Page, id: string): Promise<void> => page.evaluate(`document.getElementById('${id}').click()`);
const loaded = (page: Page): Promise<void> => page.until("document.querySelectorAll('#columns .column').length === 5");
const idle = (page: Page, id: string): Promise<void> => page.until(`document.getElementById('${id}').hidden`);

/** Requests that were to be run. */
const asked = ({ requests }: FakeEngine) => requests.filter(({ isDryRun }) => isDryRun !== true);

async function type(page: Page, id: string, words: string): Promise<void> {
  await page.evaluate(`document.getElementById('${id}').focus()`);
  await page.send('Input.insertText', { text: words });
}

/** Sends a message. @param answers wait until there are so many; absent: go on at once */
async function send(page: Page, words: string, answers?: number): Promise<void> {
  await type(page, 'chat-prompt', words);
  await page.press('Enter', 13);
  if (answers === undefined) return;
  await page.until(`document.querySelectorAll('.turn-assistant .report').length === ${answers}`);
  await idle(page, 'chat-stop');
}

/** Runs a comparison to its end. */
async function compare(page: Page): Promise<void> {
  await click(page, 'compare-send');
  await page.until("!document.getElementById('compare-stop').hidden");
  await idle(page, 'compare-stop');
}

view('Compare answers one prompt at every exit in turn, each at its own speed', async (t) => {
  const { page } = await open(t, says(answer, { pace: 5 }));
  await loaded(page);
  t.equal(await page.evaluate("document.getElementById('tab-net').hidden"), true, 'without an upstream');
  await compare(page);
  const texts = await page.evaluate<string[]>(
    "[...document.querySelectorAll('.column-text')].map((e) => e.textContent)",
  );
  t.same(
    texts,
    Array.from({ length: 5 }, () => answer),
  );
  t.match(await text(page, '.speed'), /^[\d.]+ tokens\/s$/);
  t.equal(await page.evaluate("document.getElementById('busy').hidden"), true);
  t.same(page.complaints, []);
});

view('Chat sends on Enter, shows one quiet text and its budget, and the receipt after a click', async (t) => {
  const { page, server } = await open(t, says(answer, { exits: [30, 30, 10, 10, 10, 10, 10], pace: 1 }), {}, '#/chat');
  await loaded(page);
  t.match(await text(page, '#budget-text'), /^2(\.0)?\ss$/, 'the budget at first');
  await page.evaluate("document.getElementById('budget').value = 90");
  await type(page, 'chat-prompt', 'First');
  await page.press('Enter', 13, 8);
  await page.send('Input.insertText', { text: 'line' });
  t.equal(asked(server.engine).length, 0, 'Shift and Enter break the line');
  await page.press('Enter', 13);
  await page.until("document.querySelector('.report') !== null");
  await idle(page, 'chat-stop');
  t.equal(await text(page, '.turn-user .text'), 'First\nline');
  t.equal(await text(page, '.turn-assistant .text'), answer);
  t.match(await text(page, '.report-line'), /^\d+ ms of 1\d sexits 10 to 30Receipt$/);
  t.equal(await page.evaluate("document.querySelector('.used').children.length"), 2, 'one colour for each exit');
  const isHidden = (selector: string): Promise<boolean> =>
    page.evaluate(`document.querySelector('${selector}').checkVisibility() === false`);
  t.same([await isHidden('.receipt'), await isHidden('.depth-text')], [true, true]);
  await page.evaluate("document.querySelector('.receipt-toggle').click()");
  t.same([await isHidden('.receipt'), await isHidden('.turn-assistant .text')], [false, true]);
  t.equal(await count(page, '.depth-text .depth'), 2);
  t.match(await text(page, '.receipt'), /exit 10: 5exit 30: 2.*the deepest.*Predicted.*a promiseColour: the exit/s);
  await send(page, 'Second', 2);
  const [first, second] = asked(server.engine);
  t.ok((second?.prompt.length ?? 0) > (first?.prompt.length ?? 0) + 10, 'the second turn has the first one');
  t.same(page.complaints, []);
});

view('Chat shows thoughts apart from the answer, and the next turn has the answer alone', async (t) => {
  const model = { chat: new ChatTemplate(`${chatTemplate}{# <think> #}`, {}) };
  const { page, server } = await open(t, says('<think>Hm.</think>Paris.', { pace: 1 }), { model }, '#/chat');
  await loaded(page);
  for (const turns of [1, 2]) await send(page, 'Capital?', turns);
  t.equal(await text(page, '.turn-assistant .thoughts'), 'Hm.');
  t.equal(await text(page, '.turn-assistant .text'), 'Paris.');
  const prompt = tokenizer.decode(asked(server.engine).at(-1)?.prompt ?? [], { special: true });
  t.match(prompt, 'assistant\nParis.<|im_end|>');
});

view('Chat shows the plan of the next answer while the budget moves', async (t) => {
  const script: FakeEngine['script'] = ({ depth }) => ({
    tokens: [],
    plan: { exit: depth.budget === null ? 30 : 10, predictedMs: 420, predictedP10Ms: 300, predictedP90Ms: 800 },
  });
  const { page, server } = await open(t, script, {}, '#/chat');
  await loaded(page);
  const slider = "document.getElementById('budget')";
  // One script moves through all steps, so the slider rests at the last one alone.
  const move = (...steps: number[]): Promise<void> =>
    page.evaluate(steps.map((n) => `${slider}.value = ${n}; ${slider}.dispatchEvent(new Event('input'))`).join(';'));
  await move(80, 60, 40);
  await page.until("document.getElementById('next-plan').textContent.includes('exit 10')");
  t.match(
    await text(page, '#next-plan'),
    /^Next answer: exit 10 \(the deepest that the request allows\), about 420 ms \(300 ms to 800 ms\), 100% in time\.$/,
  );
  await move(100);
  await page.until("document.getElementById('next-plan').textContent.includes('exit 30 (')");
  t.equal(asked(server.engine).length, 0, 'no answer was run');
  t.equal(server.engine.requests.length, 2, 'one request for each rest of the slider');
  t.same(page.complaints, []);
});

view('Chat shows a landed answer, the reason of its depth, and goes on without a budget', async (t) => {
  const ended = { landed: { at: 7, pressure: 3.5, probability: 0.04 } };
  const plan = { exit: 15, reason: 'load', expectedTokens: 40 } as const;
  const { page, server } = await open(t, says(answer, { exits: [15, 15], ended, plan }), {}, '#/chat');
  await loaded(page);
  await page.evaluate("document.getElementById('budget').value = 60");
  await send(page, 'First', 1);
  t.match(asked(server.engine)[0]?.depth.budget, { onMiss: 'land' });
  t.equal(
    await text(page, '.landed'),
    'Landed: it ended early, at a sentence, to keep its budget (7 of about 40 tokens).Go on',
  );
  t.match(await text(page, '.receipt'), /Why this depthother requests need the time/);
  await page.evaluate("document.querySelector('.receipt .link').click()");
  t.equal(await page.evaluate("document.getElementById('why').open"), true, 'the reason opens its explanation');
  await page.evaluate("document.querySelector('#why button').click()");
  t.equal(await page.evaluate("document.getElementById('why').open"), false);
  server.engine.script = says(' It lies on the Seine.');
  await page.evaluate("document.querySelector('.landed button').click()");
  await page.until(`document.querySelector('.turn-assistant .text').textContent === '${answer} It lies on the Seine.'`);
  await idle(page, 'chat-stop');
  t.equal(await count(page, '.landed'), 0);
  const [first, second] = asked(server.engine);
  t.equal(second?.depth.budget, null);
  const added = tokenizer.decode(second?.prompt.slice(first?.prompt.length) ?? [], { special: true });
  t.equal(added, answer, 'the open message continues');
  server.engine.script = says('', { ended: {} });
  await send(page, 'Second', 2);
  const last = tokenizer.decode(asked(server.engine).at(-1)?.prompt ?? [], { special: true });
  t.match(last, `${answer} It lies on the Seine.<|im_end|>`, 'the next turn has the whole answer');
  t.same(page.complaints, []);
});

view('Chat tells a cut, a stop and an error apart, and a pinned exit disables the budget', async (t) => {
  const { page, server } = await open(t, says(answer, { pace: 20 }), {}, '#/chat');
  await loaded(page);
  await page.evaluate("document.getElementById('chat-tokens').value = 3");
  await send(page, 'One', 1);
  t.equal(await text(page, '.turn-note'), 'Cut at 3 tokens, the longest answer.');
  server.engine.script = says(answer, { pace: 500 });
  await send(page, 'Two');
  await page.until("document.querySelectorAll('.turn-assistant')[1]?.querySelector('.depth')");
  await click(page, 'chat-stop');
  await idle(page, 'chat-stop');
  t.match(await text(page, '.turn-assistant:last-child .turn-note'), /^Stopped after \d+ tokens\.$/);
  server.engine.script = says(answer, { loseAfter: 2 });
  await send(page, 'Three');
  await page.until("document.querySelector('.failed') !== null");
  t.match(await text(page, '.failed'), /engine/);
  await page.evaluate(
    "document.getElementById('depth').selectedIndex = 1; document.getElementById('depth').dispatchEvent(new Event('change'))",
  );
  t.equal(await page.evaluate("document.getElementById('budget').disabled"), true);
  t.match(await text(page, '#budget-reason'), /^Exit 10 is pinned/);
});

view('Chat shows Markdown without HTML, keeps its chats, and follows the answer', async (t) => {
  const told = '**Bold** `code`\n\n1. one\n2. two\n\n<img src=x onerror="document.title=1"> [x](javascript:alert(1))';
  const { page, server } = await open(t, says(told, { pace: 1 }), {}, '#/chat');
  await loaded(page);
  await page.show(390, 'light');
  for (const turns of [1, 2, 3]) await send(page, `Question ${turns}`, turns);
  const html = await page.evaluate<string>("document.querySelector('.turn-assistant .text').innerHTML");
  t.match(html, /^<p><strong>Bold<\/strong> <code>code<\/code><\/p><ol><li>one<\/li><li>two<\/li><\/ol>/);
  t.same([await count(page, '.text img'), await count(page, '.text a')], [0, 0]);
  t.ok((await text(page, '.turn-assistant .text')).includes('<img src=x onerror="document.title=1">'));
  const places = await page.evaluate<Record<string, number>>(`(() => {
    const turns = document.getElementById('turns');
    const composer = document.getElementById('chat-form').getBoundingClientRect();
    return { hidden: turns.scrollHeight - turns.scrollTop - turns.clientHeight, below: composer.bottom - innerHeight };
  })()`);
  t.ok((places.hidden ?? NaN) < 2 && (places.below ?? NaN) < 2, JSON.stringify(places));
  await page.send('Page.reload');
  await page.until("document.querySelectorAll('.turn-assistant').length === 3");
  t.match(await text(page, '.turn-assistant .text'), /^Bold code/);
  t.equal(await text(page, '#chat-list option'), 'Question 1');
  await loaded(page);
  await send(page, 'Again', 4);
  const prompt = tokenizer.decode(asked(server.engine).at(-1)?.prompt ?? [], { special: true });
  t.match(prompt, 'Question 3', 'the next request has the kept turns');
  await page.evaluate(`(() => {
    const [chat] = JSON.parse(localStorage.getItem('sortie.chats'));
    Object.assign(chat.turns[1].report, { landed: null, budget_ms: null, ttft_ms: null });
    localStorage.setItem('sortie.chats', JSON.stringify([chat]));
  })()`);
  await page.send('Page.reload');
  await page.until("document.querySelectorAll('.report').length === 4");
  t.match(await text(page, '.report-line'), /no budget/, 'a kept report may have null for an absent field');
  await loaded(page);
  await click(page, 'chat-forget');
  await page.until("document.querySelectorAll('.turn-assistant').length === 0");
  t.equal(await page.evaluate("localStorage.getItem('sortie.chats')"), '[]');
  t.same(page.complaints, []);
});

view('a server with API keys asks for one, and the settings take it', async (t) => {
  const { page } = await open(t, says(answer), { apiKeys: ['sesame'] });
  await page.until("!document.getElementById('error').hidden");
  t.match(await text(page, '#served'), /API key/);
  t.match(await text(page, '#error'), /Settings/);
  await click(page, 'open-settings');
  await type(page, 'key', 'sesame');
  await page.press('Enter', 13);
  await loaded(page);
  t.equal(await page.evaluate("document.getElementById('settings').open"), false);
  t.equal(await page.evaluate("document.getElementById('error').hidden"), true);
});

view('the page waits for a model that loads', async (t) => {
  const server = await build(t, says(answer));
  const { ready } = server.engine;
  server.engine.ready = null;
  const page = await openBrowser(t);
  await page.send('Page.navigate', { url: server.url });
  await page.until("document.getElementById('served')?.textContent.includes('loading')");
  server.engine.ready = ready;
  await loaded(page);
  t.match(await text(page, '#served'), /^fake, 30 layers, 5 exits/);
});

view('every control has a name, arrow keys move between views, and a phone needs no sideways scroll', async (t) => {
  const { url } = await scriptedUpstream(t, answers(answer));
  const { page } = await open(t, says(answer), { upstreams: [{ ...upstream, url }] });
  await loaded(page);
  await page.evaluate("document.getElementById('tab-compare').focus()");
  for (const view of ['compare', 'chat', 'net']) {
    t.equal(await page.evaluate('document.activeElement.id'), `tab-${view}`);
    t.equal(await page.evaluate(`document.getElementById('${view}').hidden`), false, view);
    const { nodes } = (await page.send('Accessibility.getFullAXTree')) as { nodes: AxNode[] };
    const controls = nodes.filter(({ ignored, role }) => !ignored && CONTROLS.has(role?.value ?? ''));
    t.ok(controls.length > 5, view);
    const got = controls.filter(({ name }) => !name?.value);
    t.same(got, [], view);
    for (const scheme of ['light', 'dark'] as const) {
      await page.show(390, scheme);
      t.equal(await page.evaluate('document.documentElement.scrollWidth'), 390, `${view}, ${scheme}`);
    }
    await page.press('ArrowRight', 39);
  }
});

interface AxNode {
  readonly ignored: boolean;
  readonly role?: { readonly value: string };
  readonly name?: { readonly value: string };
}

const CONTROLS = new Set(['button', 'textbox', 'slider', 'combobox', 'spinbutton', 'checkbox', 'tab', 'link']);

// The net view, with a scripted upstream.

async function openNet(t: Test, script: UpstreamScript) {
  const there = await scriptedUpstream(t, script);
  const { page } = await open(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }] }, '#/net');
  await page.until("document.getElementById('tab-net').hidden === false");
  return { there, page };
}

const sides = (page: Page, part: string): Promise<string[]> =>
  page.evaluate(`[...document.querySelectorAll('#net-sides ${part}')].map((e) => e.textContent)`);

async function askBoth(page: Page, fault = ''): Promise<void> {
  await page.evaluate(`document.getElementById('net-fault').value = '${fault}'`);
  await page.evaluate("document.getElementById('net-budget').value = 57");
  await page.evaluate("document.getElementById('net-send').click()");
  await page.until("!document.getElementById('net-stop').hidden");
  await page.until("document.getElementById('net-stop').hidden");
}

view('both clients get the answer of an upstream without faults', async (t) => {
  const { there, page } = await openNet(t, answers('Water is wet.'));
  await askBoth(page);
  t.same(await sides(page, '.column-text'), ['Water is wet.', 'Water is wet.']);
  t.ok((await sides(page, '.column-note.met')).length === 2);
  t.match(await sides(page, '.facts'), [/^$/, /none, off.*the upstream, whole/]);
  t.same(
    there.exchanges.map(({ body }) => 'fault' in body),
    [false, false],
  );
  t.same(page.complaints, []);
});

view('a stalled upstream: the plain client has no end, the other one an end in time', async (t) => {
  const { there, page } = await openNet(t, async (exchange) => {
    begin(exchange);
    await say(exchange, 'Water is wet. ');
  });
  await askBoth(page, 'stall');
  t.same(
    there.exchanges.map(({ body }) => body.fault),
    ['stall', 'stall'],
  );
  const [plain, netted] = await sides(page, '.column-note');
  t.equal(plain, 'It gave up: no end by the deadline.');
  t.match(netted, /^An answer with an end, (within 2 s|late)$/, 'late where the machine is busy');
  t.match((await sides(page, '.facts'))[1], /the upstream, (landed|late).*the deadline/);
});
