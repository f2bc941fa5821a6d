/** Requests over time: how deep an answer is, when it lands, what its client is told and gets, also beyond the capacity. */
import t, { type Test } from 'tap';
import { type Work, predictMs } from '../../src/engine/scheduler/cost/model.js';
import type { AnswerKind, Budget } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { isGuaranteed, isMet, type Outcome } from '../simulator/simulated-engine.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { seeded } from '../../bench/loadgen/random.js';
import { outcomeOf, serve, simulated, total } from './fixtures.js';
import { layers, sample } from './sample.js';

/** Longer than nearly all answers of the prior; no client says so. */
const long: Partial<SimulatedRequest> = { lengths: layers.map(() => 900), maxTokens: 1024, isExactLength: false };

for (const totalMs of [150, 300, 800, 2000, 6000])
  void t.test(`a lone answer with ${totalMs} ms that land keeps its exit, and is guaranteed and in time`, async (t) => {
    const outcome = outcomeOf(serve([simulated('a', 0, total(totalMs, 'land'), long)]).outcomes, 'a');
    t.equal(outcome.path.length, 1);
    t.ok(isGuaranteed(outcome) && isMet(outcome), `${outcome.reason} at ${outcome.endedAt} ms`);
    if (totalMs >= 300 && totalMs < 6000) t.equal(outcome.reason, 'landed');
    if (totalMs >= 800) t.ok(outcome.endedAt > 0.7 * totalMs, `${outcome.endedAt} ms: it uses its budget`);
  });

/** A Poisson process, prompts and answers of many lengths. @param of the request by its number and a random source */
function poisson(
  count: number,
  meanMs: number,
  seed: number,
  of: (random: () => number) => Parameters<typeof simulated>[3] & { budget: Budget },
) {
  const random = seeded(seed);
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    at += meanMs * -Math.log(1 - random());
    const more = of(random);
    return simulated(`r${i}`, at, more.budget, more);
  });
}

void t.test('at load 0.8, 99 of 100 guarantees are kept, and most budgets have one', async (t) => {
  // A request at full depth by itself: 0.3 ms a position, 5.3 ms a token.
  const requests = poisson(400, (0.3 * 170 + 5.3 * 60) / 0.8, 1, (random) => {
    const tokens = Math.min(300, Math.ceil(-60 * Math.log(1 - random())));
    const promptLength = 20 + Math.floor(300 * random());
    const budget = total(60 + (0.3 * promptLength + 5.3 * tokens) * (2 + Math.floor(9 * random())), 'land');
    return { promptLength, maxTokens: 1024, isExactLength: false, lengths: layers.map(() => tokens), budget };
  });
  const { outcomes } = serve(requests);
  const guaranteed = outcomes.filter(isGuaranteed);
  const kept = guaranteed.filter(isMet).length;
  t.ok(kept >= 0.99 * guaranteed.length, `${kept} of ${guaranteed.length}`);
  t.ok(guaranteed.length >= 240, `${guaranteed.length} of 400`);
  t.ok(outcomes.filter(isMet).length >= 0.95 * 400, `${outcomes.filter(isMet).length} of 400 in time`);
});

/** The same requests without budgets at the shallowest exit: a queue. Judged by the budgets all the same. */
function queued(requests: readonly SimulatedRequest[], machine = {}): Outcome[] {
  const { outcomes } = serve(
    requests.map((request) => ({ ...request, budget: null, minExit: 10, maxExit: 10 })),
    { machine },
  );
  const asked = new Map(requests.map((request) => [request.id, request]));
  return outcomes.map((each) => ({ ...each, request: asked.get(each.request.id) ?? each.request }));
}

void t.test('beyond what the shallowest exit can serve, more budgets are kept than by a queue', async (t) => {
  const machine = { actual: (work: Work): number => predictMs(sample, work) + 2 };
  for (const perSecond of [45, 80]) {
    const requests = poisson(300, 1000 / perSecond, perSecond, (random) => {
      const tokens = 10 + Math.floor(40 * random());
      const promptLength = 20 + Math.floor(120 * random());
      return { promptLength, maxTokens: tokens, lengths: layers.map(() => tokens), budget: total(40 * tokens + 200) };
    });
    const routed = serve(requests, { machine }).outcomes;
    const [ours, theirs] = [routed.filter(isMet).length, queued(requests, machine).filter(isMet).length];
    t.ok(ours > theirs && theirs < 300, `${perSecond}/s: ${ours} in time, ${theirs} by a queue`);
    t.ok(
      routed.every(({ tokens, request }) => tokens === request.lengths[0]),
      'late requests are answered as well',
    );
  }
});

void t.test('depth gives way ahead of budgets', async (t) => {
  const at = (gapMs: number): { inTime: number; depth: number } => {
    const requests = Array.from({ length: 100 }, (_, i) => simulated(`r${i}`, i * gapMs, total(1200)));
    const { outcomes } = serve(requests);
    const parts = outcomes.flatMap(({ path }) => path);
    const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
    const depth = parts.reduce((sum, part) => sum + part.exit * part.tokens, 0) / tokens;
    return { inTime: outcomes.filter(isMet).length, depth };
  };
  t.same(at(1000), { inTime: 100, depth: 30 });
  const busy = at(90);
  t.ok(busy.depth < 29 && busy.depth > 10, `mean depth ${busy.depth}`);
  t.ok(busy.inTime >= 97, `${busy.inTime} of 100 in time`);
});

/** Milliseconds until the first token of one request in the middle of closed-loop clients without budgets. */
function ttftAmong(t: Test, budget: Budget | null): number {
  const more = { isExactLength: false, maxTokens: 256 };
  const others = Array.from({ length: 120 }, (_, i) => simulated(`r${i}`, 0, null, more));
  const requests = others.toSpliced(60, 0, simulated('budgeted', 0, budget, more));
  const { outcomes } = serve(requests, { machine: { slots: 16, clients: 20 } });
  t.equal(outcomes.length, 121, 'every request ends');
  const { request, firstTokenAt } = outcomeOf(outcomes, 'budgeted');
  return (firstTokenAt ?? NaN) - request.arrivedAt;
}

void t.test('starvation: a budget among closed-loop clients without any is no disadvantage', async (t) => {
  const free = ttftAmong(t, null);
  for (const ms of [50, 200, 1000, 20_000]) {
    const ttftMs = ttftAmong(t, total(ms));
    t.ok(ttftMs <= 3 * free, `${ms} ms: first token after ${ttftMs} ms, ${free} ms without a budget`);
  }
});

void t.test('starvation: a request without a budget ends within twice 1/share of its own time', async (t) => {
  const answer = { lengths: layers.map(() => 30), maxTokens: 30 };
  // Twice what the machine can serve, for as long as the request lives.
  const tight = Array.from({ length: 400 }, (_, i) => simulated(`tight${i}`, i * 25, total(600, 'reject'), answer));
  const free = simulated('free', 1000, null, answer);
  const all = [...tight, free].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const served = outcomeOf(serve(all, { machine: { slots: 8 } }).outcomes, 'free');
  const ownMs = outcomeOf(serve([free]).outcomes, 'free').endedAt - 1000;
  const tookMs = served.endedAt - 1000;
  t.ok(tookMs <= (2 * ownMs) / defaultPolicy.noBudgetShare, `${tookMs} ms of ${ownMs} ms alone`);
  t.same(served.path, [{ exit: 30, tokens: 30 }], 'at full depth all along');
});

const PROSE = 60;
/** A usual chat at full depth by itself: .3 ms a position, 5.3 ms a token. */
const ALONE_MS = 0.3 * 60 + 5.3 * 60;

/** Poisson arrivals of one key at load 1: four fifths are prose. @param code the group of the rest; null: there is none */
function mixed(code: AnswerKind | null): SimulatedRequest[] {
  const text = { promptLength: 40, maxTokens: 1024, isExactLength: false, tenant: 'one' } as const;
  const arrivals = (count: number, load: number, seed: number, of: (i: number, random: () => number) => object) => {
    const random = seeded(seed);
    let at = 0;
    return Array.from({ length: count }, (_, i) => {
      at += (ALONE_MS / load) * -Math.log(1 - random());
      return simulated(`${seed}-${i}`, at, total(ALONE_MS * (1 + (i % 4)), 'land'), { ...text, ...of(i, random) });
    });
  };
  const prose = arrivals(PROSE, 0.8, 1, (_, random) => {
    const tokens = Math.min(300, Math.max(8, Math.ceil(-70 * Math.log(1 - random()))));
    return { lengths: layers.map(() => tokens), sentenceTokens: 10 + Math.floor(14 * random()) };
  });
  if (code === null) return prose;
  // Lines of data without a mark: 160 tokens until a text may end.
  const lines = { lengths: layers.map(() => 200), sentenceTokens: 160, kind: code };
  const others = arrivals(PROSE / 4, 0.2, 2, () => lines);
  return [...prose, ...others].sort((a, b) => a.arrivedAt - b.arrivedAt);
}

/** Kept promises of the prose. */
function kept(code: AnswerKind | null): number {
  const { outcomes } = serve(mixed(code));
  return outcomes.filter((each) => each.request.id.startsWith('1-') && isGuaranteed(each) && isMet(each)).length;
}

void t.test('a fifth of requests for code changes few promises of the prose of the same key', async (t) => {
  const alone = kept(null);
  t.ok(alone >= 0.95 * PROSE, `${alone} of ${PROSE} alone`);
  for (const kind of ['schema', 'chat'] as const)
    t.ok(kept(kind) >= 0.95 * alone, `${kept(kind)} beside code of the kind ${kind}`);
});

const answer: Partial<SimulatedRequest> = { lengths: layers.map(() => 30), maxTokens: 30 };
/** One key asks for twice what the machine can promise, for 4 s. */
const flood = Array.from({ length: 160 }, (_, i) =>
  simulated(`flood${i}`, i * 25, total(600, 'reject'), { ...answer, tenant: 'flood' }),
);

/** Answers without a budget that one more key gets in these 4 s. */
function answersBeside(others: readonly SimulatedRequest[]): number {
  const queue = Array.from({ length: 60 }, (_, i) => simulated(`free${i}`, 0, null, { ...answer, tenant: 'free' }));
  const all = [...queue, ...others].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const { outcomes } = serve(all, { machine: { slots: 8 } });
  return outcomes.filter(({ request, endedAt }) => request.id.startsWith('free') && endedAt <= 4_000).length;
}

void t.test('a flood of promises leaves another key a share of the machine, not only what is set aside', async (t) => {
  const alone = answersBeside([]);
  const beside = answersBeside(flood);
  const sameKey = answersBeside(flood.map((each) => ({ ...each, tenant: 'free' })));
  t.ok(beside >= 0.35 * alone, `${beside} answers, ${alone} without the flood`);
  t.ok(sameKey < 0.75 * beside, `${sameKey} answers beside a flood of its own key`);
});
