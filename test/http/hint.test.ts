/** X-Budget-Hint: which chats offer hints to the engine, and the report on a hint that it took. */
import t from 'tap';
import type { Hint } from '../../src/engine/model/manifest.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { hintsOf } from '../../src/gateway/api/params/hint.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { PLAIN } from '../../src/engine/model/architecture.js';
import { READY } from '../fakes/engine.js';
import { build, chatTemplate, says, tokenizer } from '../fakes/server.js';

const HINTS: readonly Hint[] = [
  { text: ' Answer in one short sentence.', words: 15, tokens: 19 },
  { text: ' Answer in about 40 words.', words: 40, tokens: 56 },
];
const CHAT = '/v1/chat/completions';
const auto = { 'x-budget-hint': 'auto', 'x-latency-budget-ms': '60000' };
const ask = (content: string) => ({ messages: [{ role: 'user', content }], max_tokens: 40 });
const body = ask('Where is Paris?');

const written = (content: string): readonly number[] =>
  tokenizer.encode(new ChatTemplate(chatTemplate, {}).render([{ role: 'user', content }], true), false);

void t.test(
  'a chat with a budget offers each hint at the end of its last message, as the rest of its prompt',
  async (t) => {
    const server = await build(t, undefined, { model: { hints: HINTS } });
    t.equal((await server.post(CHAT, body, auto)).status, 200);
    const { prompt = [], hints = [] } = server.engine.requests[0] ?? {};
    t.strictSame(prompt, written('Where is Paris?'));
    const forms = hints.map(({ shared, rest }) => [...prompt.slice(0, shared), ...rest]);
    t.strictSame(
      forms,
      HINTS.map(({ text }) => [...written(`Where is Paris?${text}`)]),
    );
    t.strictSame(
      hints.map(({ tokens }) => tokens),
      [19, 56],
    );
    t.ok(
      hints.every(({ shared, rest }) => shared > 5 && rest.length < 20),
      'the forms share their start',
    );
  },
);

void t.test('the other APIs of chats offer them too, by the field as well', async (t) => {
  const server = await build(t, undefined, { model: { hints: HINTS } });
  const sortie = { budget_hint: 'auto', latency_budget_ms: 60_000 };
  for (const [path, more] of [
    ['/v1/responses', { input: 'Where is Paris?', max_output_tokens: 40 }],
    ['/v1/messages', body],
  ] as const) {
    t.equal((await server.post(path, { ...more, sortie })).status, 200, path);
    t.equal(server.engine.requests.at(-1)?.hints?.length, 2, path);
  }
});

void t.test('no hint without a budget, for answers of another kind, or beside words about the length', async (t) => {
  const thinking = new ChatTemplate(`${chatTemplate}{# <think> </think> #}`, {});
  const server = await build(t, undefined, { model: { hints: HINTS } });
  const tools = [{ type: 'function', function: { name: 'now' } }];
  const open = { messages: [...body.messages, { role: 'assistant', content: 'It', prefix: true }], max_tokens: 40 };
  const cases: [string, object, Record<string, string>?][] = [
    [CHAT, body, { ...auto, 'x-budget-hint': 'off' }],
    [CHAT, body, { 'x-latency-budget-ms': '60000' }],
    [CHAT, body, { 'x-budget-hint': 'auto' }],
    [CHAT, body, { 'x-budget-hint': 'auto', 'x-slo-ttft-ms': '60000' }],
    [CHAT, { ...body, sortie: { budget_hint: 'off' } }],
    ['/v1/completions', { prompt: 'Where is Paris?', max_tokens: 40 }],
    [CHAT, { ...body, n: 2 }],
    [CHAT, { ...body, tools }],
    [CHAT, { ...body, response_format: { type: 'json_object' } }],
    [CHAT, { ...body, structured_outputs: { choice: ['a', 'b'] } }],
    [CHAT, { ...body, add_generation_prompt: false }],
    [CHAT, { ...body, ignore_eos: true }],
    [CHAT, { ...body, min_tokens: 10 }],
    [CHAT, { ...open, messages: [...body.messages, { role: 'assistant', content: 'It' }] }],
    [CHAT, open],
    [CHAT, ask(' ')],
    [CHAT, ask('Where is Paris? Answer in one sentence.')],
    [CHAT, ask('Wo ist Paris?')],
    [CHAT, ask('Make a table of two cities.')],
    [CHAT, { ...body, messages: [{ role: 'system', content: 'Be brief.' }, ...body.messages] }],
    [CHAT, { ...body, max_tokens: 240 }],
  ];
  for (const [path, sent, headers = auto] of cases) {
    const { status } = await server.post(path, sent, headers);
    t.equal(status, 200, JSON.stringify(sent));
    t.equal(server.engine.requests.at(-1)?.hints, undefined, JSON.stringify([sent, headers]));
  }
  const earlier = {
    ...body,
    messages: [...ask('Briefly: who are you?').messages, { role: 'assistant', content: 'I.' }],
  };
  await server.post(CHAT, { ...earlier, messages: [...earlier.messages, ...body.messages] }, auto);
  t.equal(server.engine.requests.at(-1)?.hints?.length, 2, 'words of earlier messages are about other answers');
  const thinks = await build(t, undefined, { model: { hints: HINTS, chat: thinking } });
  await thinks.post(CHAT, body, auto);
  t.equal(thinks.engine.requests[0]?.hints, undefined, 'thoughts have a length of their own');
});

void t.test('a wrong value names the header or the field, the rule and the value', async (t) => {
  const server = await build(t, undefined, { model: { hints: HINTS } });
  const faults: [object, Record<string, string>, object][] = [
    [body, { 'x-budget-hint': 'yes' }, { param: 'X-Budget-Hint', message: /must be off or auto, got "yes"/ }],
    [body, { 'x-budget-hint': 'off, auto' }, { param: 'X-Budget-Hint', message: /different ones: off, auto/ }],
    [{ ...body, sortie: { budget_hint: 1 } }, {}, { param: 'sortie.budget_hint', message: /"off" or "auto"/ }],
  ];
  for (const [sent, headers, error] of faults) {
    const response = await server.post(CHAT, sent, headers);
    t.equal(response.status, 400);
    t.match(await response.json(), { error });
  }
});

void t.test('the key, then the server say what a request does not say', async (t) => {
  const keys = [
    openKey('plain'),
    { ...openKey('hinted'), policy: { ...openKey('').policy, budgetHint: 'auto' as const } },
  ];
  const server = await build(t, undefined, { model: { hints: HINTS }, apiKeys: keys });
  const count = async (key: string, more: Record<string, string> = {}): Promise<number> => {
    const headers = { authorization: `Bearer ${key}`, 'x-latency-budget-ms': '60000', ...more };
    t.equal((await server.post(CHAT, body, headers)).status, 200);
    return server.engine.requests.at(-1)?.hints?.length ?? 0;
  };
  t.equal(await count('plain'), 0);
  t.equal(await count('hinted'), 2);
  t.equal(await count('hinted', { 'x-budget-hint': 'off' }), 0);
  const policy = { defaultBudget: null, minExit: null, maxExit: null, budgetHint: 'auto' } as const;
  const all = await build(t, undefined, { model: { hints: HINTS }, limits: { policy } });
  await all.post(CHAT, body, { 'x-latency-budget-ms': '60000' });
  t.equal(all.engine.requests[0]?.hints?.length, 2);
});

void t.test('report, usage, metric and log tell of the hint', async (t) => {
  const log: string[] = [];
  const given = { model: { hints: HINTS }, log: (line: string) => log.push(line) };
  const server = await build(t, says('Paris is here.', { plan: { hint: 1 } }), given);
  const first = (await (await server.post(CHAT, body, auto)).json()) as object;
  const prompt = written(`Where is Paris?${HINTS[1]?.text ?? ''}`).length;
  const hint = { text: 'Answer in about 40 words.', words: 40 };
  t.match(first, { usage: { prompt_tokens: prompt }, sortie: { hint } });
  const plain = await build(t, undefined, { model: { hints: HINTS } });
  const other = (await (await plain.post(CHAT, body, auto)).json()) as object;
  t.match(other, { usage: { prompt_tokens: written('Where is Paris?').length }, sortie: { hint: null } });
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /^sortie_hinted_total\{.*\} 1$/m);
  const line = log.map((each) => JSON.parse(each) as object).find((each) => 'sortie' in each);
  t.match(line, { sortie: { hint } });
});

void t.test('a model has its measured hints, else usual ones from a billion parameters on', async (t) => {
  const small = { ...READY.architecture, ...PLAIN, pattern: [...PLAIN.pattern] };
  const large = { ...small, hidden: 4096, ffn: 14336, layers: 32, heads: 32, kvHeads: 8, headDim: 128 };
  t.strictSame(hintsOf({ architecture: small, hints: [...HINTS] }), HINTS);
  t.strictSame(hintsOf({ architecture: small }), []);
  t.strictSame(hintsOf({ architecture: large, hints: [] }), [], 'measured, and none is worth it');
  const usual = hintsOf({ architecture: large });
  t.ok(usual.length > 1 && usual.every(({ text, tokens, words }) => text.startsWith(' ') && tokens > words));
});
