/** The net view of the playground in Debian's Chromium, with a scripted upstream. */
import t, { type Test } from 'tap';
import { missing } from '../deploy/helper.js';
import { openBrowser, type Page } from '../fakes/browser.js';
import { build, says } from '../fakes/server.js';
import { answers, begin, scriptedUpstream, say, upstream, type UpstreamScript } from '../fakes/upstream.js';

const view = (name: string, run: (t: Test) => Promise<void>): void =>
  void t.test(name, { skip: missing('chromium') }, run);

async function open(t: Test, script: UpstreamScript) {
  const there = await scriptedUpstream(t, script);
  const server = await build(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }] });
  const page = await openBrowser(t);
  await page.show(1280, 'light');
  await page.send('Page.navigate', { url: `${server.url}/#/net` });
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
  const { there, page } = await open(t, answers('Water is wet.'));
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
  const { there, page } = await open(t, async (exchange) => {
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

view('a server without an upstream has no such view', async (t) => {
  const server = await build(t, says('Local.'));
  const page = await openBrowser(t);
  await page.send('Page.navigate', { url: `${server.url}/` });
  await page.until("document.querySelectorAll('.column').length > 2");
  t.equal(await page.evaluate("document.getElementById('tab-net').hidden"), true);
});
