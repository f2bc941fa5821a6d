/** Answers that land, by the engine over a tiny model whose tokens have the texts of each test. */
import fc from 'fast-check';
import t from 'tap';
import { SentenceScanner } from '../../../src/gateway/text/sentences/sentence-scanner.js';
import { TokenTexts } from '../../../src/engine/landing/token-texts.js';
import type { Constraint } from '../../../src/engine/constraint.js';
import type { EngineOptions, Speculate } from '../../../src/protocol/engine-options.js';
import type { EndedEvent, SequenceRequest, OnMiss, PlannedEvent, Sampling } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/request.js';
import { type Answer, drain, equalCosts, greedy, makeCore, makeExecutor, within } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'int8') });
const { vocab } = executor.model.manifest.architecture;
const layers = executor.model.manifest.exits.map(({ layer }) => layer);
const deep = layers.at(-1) ?? 0;
const PROMPT = Array.from({ length: 24 }, (_, i) => 2 + (i % 6) * 31);
const OTHER = [5, 9, 31, 77, 12, 40, 8, 55, 21, 3];
const LENGTH = 60;
/** Greedy, without the loops of a model of random weights. */
const VARIED: Sampling = { ...GREEDY, dry: { multiplier: 5, base: 2, allowedLength: 1 } };
/** A token that the model never prefers here. */
const END = 1;
const utf8 = new TextEncoder();

/** Time of a step on the clock of these tests. */
const TICK_MS = 10;
/** Plans expect a twentieth of it, so a budget below one sentence begins, as beside a sudden load. */
const costs = equalCosts(executor, TICK_MS / 20 / executor.units.stages.length);

t.afterEach(() => {
  executor.forget(0);
});

/** A vocabulary of words, beside these texts by token. */
function textsWith(texts: ReadonlyMap<number, string>): TokenTexts {
  const bytes = Array.from({ length: vocab }, (_, id) => utf8.encode(texts.get(id) ?? ` Word${id}`));
  return new TokenTexts({ bytes, special: new Set([END]) });
}

const marks = (ids: readonly number[], mark = ' Yes.'): Map<number, string> => new Map(ids.map((id) => [id, mark]));

const budgeted = (totalMs: number, onMiss: OnMiss = 'land') => within(deep, totalMs, onMiss);

interface Trial {
  readonly texts?: TokenTexts | undefined;
  readonly options?: Partial<EngineOptions>;
  /** Milliseconds that each step takes. */
  readonly tickMs?: (step: number) => number;
  readonly constraint?: Constraint | null;
}

interface Course extends Answer {
  readonly planned: PlannedEvent;
  readonly ended: EndedEvent;
}

/** Answers to requests that arrive at 0 on a clock that only steps advance; null for a rejected one. */
function answers(requests: readonly SequenceRequest[], trial: Trial = {}): (Course | null)[] {
  const { texts, tickMs = () => TICK_MS, options = {}, constraint = null } = trial;
  let now = 0;
  let steps = 0;
  const core = makeCore(executor, { prefixReuse: false, ...options }, () => now, texts, { costs });
  for (const request of requests) core.submit({ ...request, arrivedAt: 0 }, constraint);
  const planned = new Map<string, PlannedEvent>();
  const rejected = new Set<string>();
  const ended = drain(core, (step) => {
    for (const event of step.planned) planned.set(event.id, event);
    for (const { id } of step.rejected) rejected.add(id);
    now += tickMs(++steps);
  });
  t.equal(executor.table.used('live'), 0, 'every slot is free');
  executor.forget(0);
  return requests.map(({ id }) => {
    const plan = planned.get(id);
    const own = ended.get(id);
    if (rejected.has(id)) return null;
    if (plan === undefined || own?.ended == null) throw new Error(`${id} got lost`);
    return { ...own, ended: own.ended, planned: plan };
  });
}

function one(request: SequenceRequest, trial: Trial = {}): Course {
  const [course = null] = answers([request], trial);
  if (course === null) throw new Error('rejected');
  return course;
}

const ask = (more: Partial<SequenceRequest> = {}, prompt = PROMPT): SequenceRequest =>
  greedy('a', prompt, deep, LENGTH, { stopTokens: [END], sampling: VARIED, ...more });

/** The answers without a budget. */
const plain = one(ask()).tokens;
const otherPlain = one(ask({}, OTHER)).tokens;
/** Tokens that end sentences at some places of the answer. */
const some = textsWith(marks([...new Set(plain)].filter((_, i) => i % 5 === 2)));

/** Whether the text of an answer may end where it does. */
function mayEnd(texts: TokenTexts, tokens: readonly number[]): boolean {
  const place = new SentenceScanner();
  for (const token of tokens) place.read(texts.of(token));
  return place.mayEnd !== 'no';
}

const isPrefix = (tokens: readonly number[], of = plain): boolean => tokens.every((token, i) => token === of[i]);

void t.test('a landed greedy answer is a prefix of the answer without a budget, and ends a sentence', async (t) => {
  t.equal(plain.length, LENGTH);
  let landed = 0;
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.subarray([...new Set([...plain, ...otherPlain])], { minLength: 1 }),
      fc.constantFrom(' Yes.', '是。', ' هل؟', ' "Why?"', ' So\n', ' Yes.\n\n', '.'),
      fc.integer({ min: 5, max: 900 }),
      fc.constantFrom<OnMiss>('land', 'reject'),
      fc.constantFrom<Speculate>('off', 'all'),
      (isOther, ids, mark, totalMs, onMiss, speculate) => {
        const texts = textsWith(marks(ids, mark));
        const request = ask(budgeted(totalMs, onMiss), isOther ? OTHER : PROMPT);
        const [course = null] = answers([request], { texts, options: { speculate } });
        // Neither begins where no sentence fits.
        if (course === null) return true;
        const { tokens, ended } = course;
        const whole = isOther ? otherPlain : plain;
        if (!isPrefix(tokens, whole)) return false;
        if (ended.landed === undefined) return ended.reason !== 'stop' || tokens.length === whole.length;
        landed++;
        const { at, pressure, probability } = ended.landed;
        const isTrue = at === tokens.length && pressure > 0 && probability >= 0 && probability < 0.5;
        return ended.reason === 'stop' && isTrue && mayEnd(texts, tokens);
      },
    ),
    { numRuns: 120 },
  );
  t.ok(landed > 30, `${landed} of 120 landed`);
});

void t.test('an answer that ends within its budget is that of no budget, with no pressure on it', async (t) => {
  const { tokens, ended, planned } = one(ask(budgeted(60_000)), { texts: some });
  t.strictSame(tokens, plain);
  t.equal(planned.landing, 'possible');
  t.match(ended, { reason: 'length', landed: undefined });
});

void t.test('without a place to end, the answer ends at its deadline', async (t) => {
  const fence = plain.find((token) => plain.indexOf(token) === plain.lastIndexOf(token)) ?? 0;
  const after = plain.slice(plain.indexOf(fence) + 1);
  const before = plain.filter((token) => !after.includes(token));
  const cases: Record<string, TokenTexts | undefined> = {
    'no marks, one line': textsWith(new Map()),
    'a code fence': textsWith(new Map([...marks(after), ...marks(before, ' word'), [fence, '\n```\n']])),
    'no texts': undefined,
  };
  for (const [name, texts] of Object.entries(cases))
    for (const onMiss of ['land', 'reject'] as const) {
      const { tokens, ended } = one(ask(budgeted(400, onMiss)), { texts });
      t.match(ended, { reason: 'deadline', landed: undefined }, name);
      t.ok(isPrefix(tokens) && tokens.length > 5 && tokens.length < LENGTH, `${tokens.length} tokens`);
      t.ok(ended.endedAt <= 400, `at ${ended.endedAt}`);
    }
});
