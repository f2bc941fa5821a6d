import t from 'tap';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { repetitionPenalties } from '../../../src/engine/sampling/dry.js';
import {
  advance,
  advanceTo,
  argmax,
  auditsOf,
  drain,
  type engineOptions,
  greedy,
  makeCore,
  makeExecutor,
  openSlot,
  PROMPTS,
} from '../helper.js';

const audit = { busyShare: 0 };
const executor = await makeExecutor(t, { audit, maxRunning: 4 });
const { table } = executor;
const deepest = executor.units.deepest;
const layers = executor.model.manifest.exits.map(({ layer }) => layer);
const [shallowest = 0, second = 0] = layers;
const PLAIN = { dry: { multiplier: 0, base: 1, allowedLength: 1 } };

t.afterEach(() => {
  executor.forget(0);
});

const coreOf = (overrides: Parameters<typeof engineOptions>[0] = {}) =>
  makeCore(executor, { audit, maxRunning: 4, ...overrides });

function request(id: string, index: number, layer: number, changes: Partial<SequenceRequest> = {}): SequenceRequest {
  const base = greedy(id, PROMPTS[index] ?? [], layer, 24);
  return { ...base, ...changes, sampling: { ...base.sampling, ...PLAIN, ...changes.sampling } };
}

/** Full depth's logits at each answer position, by one prefill of the whole text. */
function directLogits(prompt: readonly number[], answer: readonly number[]): Float32Array[] {
  const slot = openSlot(executor, [...prompt, ...answer]);
  const end = prompt.length + answer.length - 1;
  const { head } = executor;
  const rows: Float32Array[] = [];
  while (slot.least(executor.exit(deepest).needed) < end) {
    const start = slot.least(executor.exit(deepest).needed);
    const output = advance(executor, slot, deepest, Math.min(end, start + 40));
    if (output === null) throw new Error('no output');
    for (let position = Math.max(start, prompt.length - 1); position < output.end; position++) {
      output.toHead(position, 1);
      rows.push(head.fullLogits(0).slice());
    }
  }
  table.drop(slot);
  return rows;
}

function logprobOf(logits: Float32Array, token: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((all, logit) => all + Math.exp(logit - most), 0);
  return (logits[token] ?? NaN) - most - Math.log(sum);
}

/** KL of one distribution to another in nats, by its definition. */
function klOf(p: Float32Array, q: Float32Array): number {
  const logs = [p, q].map((logits) => {
    const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const lse = most + Math.log(logits.reduce((all, logit) => all + Math.exp(logit - most), 0));
    return Float64Array.from(logits, (logit) => logit - lse);
  });
  const [logP = new Float64Array(), logQ = new Float64Array()] = logs;
  return logP.reduce((sum, log, id) => sum + Math.exp(log) * (log - (logQ[id] ?? 0)), 0);
}

void t.test('an audit equals a prefill of the same text at full depth', async (t) => {
  for (const [index, layer] of [
    [0, shallowest],
    [1, second],
    [2, layers[deepest - 1] ?? 0],
  ] as const) {
    const core = coreOf();
    core.submit(request('a', index, layer));
    const answer = drain(core).get('a')?.tokens ?? [];
    const [event] = await auditsOf(core);
    t.match(event, { id: 'a', skipped: null });
    t.equal(event?.tokens.length, 24);
    const direct = directLogits(PROMPTS[index] ?? [], answer);
    for (const [i, token] of (event?.tokens ?? []).entries()) {
      const logits = direct[i] ?? new Float32Array(1);
      const written = answer[i] ?? -1;
      t.equal(token.token, written);
      t.equal(token.index, i);
      t.equal(token.exit, layer);
      t.equal(token.best, argmax(logits), `choice ${i}`);
      t.ok(Math.abs(token.logprob - logprobOf(logits, written)) < 1e-4, `log-probability ${i}`);
      t.ok(Math.abs(token.bestLogprob - logprobOf(logits, token.best)) < 1e-4);
      const larger = logits.filter((logit) => logit > (logits[written] ?? NaN)).length;
      t.equal(token.rank, larger < 64 ? larger + 1 : null, `rank ${i}`);
      t.equal(token.probability, token.best === written ? 1 : 0);
    }
    t.equal(event?.probe?.tokens, 24);
  }
});

void t.test('the probed exit changes from audit to audit, and agrees with a prefill of that exit', async (t) => {
  const core = coreOf();
  const probed = new Set<number>();
  for (let i = 0; i < deepest; i++) {
    core.submit(request(`p${i}`, 1, second));
    const answer = drain(core).get(`p${i}`)?.tokens ?? [];
    const [event] = await auditsOf(core);
    const exit = executor.model.exitIndex(event?.probe?.exit ?? 0);
    probed.add(exit);
    const prompt = PROMPTS[1] ?? [];
    const direct = directLogits(prompt, answer);
    const slot = openSlot(executor, [...prompt, ...answer]);
    advanceTo(executor, slot, exit, prompt.length - 3);
    const output = advance(executor, slot, exit, prompt.length + answer.length - 1);
    if (output === null) throw new Error('no output');
    let agreeing = 0;
    const divergences: number[] = [];
    for (let row = 0; row < answer.length; row++) {
      output.toHead(prompt.length - 1 + row, 1);
      const shallow = executor.head.fullLogits(0).slice();
      const deep = direct[row] ?? new Float32Array(1);
      if (argmax(shallow) === argmax(deep)) agreeing++;
      if (row % 8 === 0) divergences.push(klOf(deep, shallow));
    }
    table.drop(slot);
    t.equal(event?.probe?.agreeing, agreeing, `exit ${exit}`);
    const kl = divergences.reduce((sum, each) => sum + each, 0) / divergences.length;
    t.ok(kl > 0 && Math.abs((event?.probe?.kl ?? NaN) - kl) < 1e-3 * kl, `KL ${kl} of exit ${exit}`);
  }
  t.equal(probed.size, deepest);
});

void t.test('an answer that changed its exit is audited where it was below full depth', async (t) => {
  const core = coreOf();
  const plan = [deepest, deepest, 0, 0, 0, 0, deepest, deepest, 1, 1, 1, 1];
  const depth = { minExit: shallowest, maxExit: layers.at(-1) ?? 0, budget: null };
  core.submit(request('mixed', 1, shallowest, { maxTokens: plan.length, depth }));
  const answer: number[] = [];
  const exits: number[] = [];
  while (core.busy) {
    // As behind thoughts, the exit changes between two steps.
    const [running] = core.scheduler.slots.running;
    if (running !== undefined) running.exit = plan[answer.length] ?? 0;
    for (const { token, exit } of core.step().tokens) {
      answer.push(token);
      exits.push(exit);
    }
  }
  t.same(
    exits,
    plan.map((exit) => layers[exit]),
  );
  const [event] = await auditsOf(core);
  t.same(
    event?.tokens.map(({ index, exit }) => [index, exit]),
    plan.flatMap((exit, index) => (exit === deepest ? [] : [[index, layers[exit]]])),
  );
  const direct = directLogits(PROMPTS[1] ?? [], answer);
  for (const { index, best } of event?.tokens ?? []) {
    t.equal(best, argmax(direct[index] ?? new Float32Array(1)), `choice ${index}`);
  }
});

void t.test('audits count the rules of the answer', async (t) => {
  const dry = { multiplier: 8, base: 2, allowedLength: 1 };
  const loop = [504, 2644, 2643, 335, 260, 1171, 30, 378, 2644, 2643, 335, 260, 1171, 30, 378, 2644];
  const core = coreOf();
  const base = request('dry', 0, shallowest);
  const bias: readonly (readonly [number, number])[] = [[260, 3]];
  core.submit({ ...base, prompt: loop, sampling: { ...base.sampling, dry, logitBias: bias, frequencyPenalty: 0.5 } });
  const answer = drain(core).get('dry')?.tokens ?? [];
  const [event] = await auditsOf(core);
  const direct = directLogits(loop, answer);
  let penalized = 0;
  for (const [i, { best, logprob, token }] of (event?.tokens ?? []).entries()) {
    const logits = (direct[i] ?? new Float32Array(1)).slice();
    const penalties = repetitionPenalties([...loop, ...answer.slice(0, i)], loop.length, dry);
    penalized += penalties.size;
    for (const [id, amount] of penalties) logits[id] = (logits[id] ?? 0) - amount;
    for (const id of answer.slice(0, i)) logits[id] = (logits[id] ?? 0) - 0.5;
    for (const [id, amount] of bias) logits[id] = (logits[id] ?? 0) + amount;
    t.equal(best, argmax(logits), `choice ${i}`);
    t.ok(Math.abs(logprob - logprobOf(logits, token)) < 1e-4, `log-probability ${i}`);
  }
  t.ok(penalized > 0, 'the rule had an effect');
});

void t.test('an audit repeats every rule that the sampler has', async (t) => {
  const core = coreOf();
  const base = request('rules', 1, shallowest);
  const bias = Array.from({ length: 200 }, (_, id) => [id * 7, id % 5] as const);
  const sampling = { ...base.sampling, repetitionPenalty: 1.3, presencePenalty: 0.4, logitBias: bias };
  const stop = [2, 28];
  core.submit({ ...base, sampling, minTokens: 10, stopTokens: stop });
  const answer = drain(core).get('rules')?.tokens ?? [];
  const [event] = await auditsOf(core);
  const prompt = PROMPTS[1] ?? [];
  const direct = directLogits(prompt, answer);
  t.equal(event?.tokens.length, answer.length);
  for (const [i, { best, logprob, token }] of (event?.tokens ?? []).entries()) {
    const logits = (direct[i] ?? new Float32Array(1)).slice();
    for (const id of new Set([...prompt, ...answer.slice(0, i)])) {
      const logit = logits[id] ?? 0;
      logits[id] = logit > 0 ? logit / 1.3 : logit * 1.3;
    }
    for (const id of new Set(answer.slice(0, i))) logits[id] = (logits[id] ?? 0) - 0.4;
    for (const [id, amount] of bias) logits[id] = (logits[id] ?? 0) + amount;
    if (i < 10) for (const id of stop) logits[id] = -Infinity;
    t.equal(best, argmax(logits), `choice ${i}`);
    t.ok(Math.abs(logprob - logprobOf(logits, token)) < 1e-4, `log-probability ${i}`);
  }
  t.equal(event?.probe, null, 'text that a bias wrote is no evidence of quality');
});

void t.test('answers without an audit have a reason', async (t) => {
  const core = coreOf();
  core.submit(request('full', 0, layers[deepest] ?? 0));
  core.submit(request('gone', 0, shallowest));
  core.step();
  core.cancel('gone');
  drain(core);
  const audits = await auditsOf(core);
  t.same(Object.fromEntries(audits.map(({ id, skipped }) => [id, skipped])), {
    full: 'full_depth',
    gone: 'cancelled',
  });
  const off = makeCore(executor);
  off.submit(request('asked', 0, shallowest, { audit: true }));
  off.submit(request('silent', 0, shallowest));
  drain(off);
  t.match(await auditsOf(off), [{ id: 'asked', skipped: 'off' }]);
});

void t.test('an audit ends after 20 s of engine time, and the next one follows', async (t) => {
  let now = 0;
  const core = makeCore(executor, { audit, maxRunning: 4 }, () => now);
  core.submit(request('long', 0, shallowest));
  core.submit(request('next', 1, shallowest));
  drain(core);
  const run = executor.run.bind(executor);
  executor.run = (...batch) => {
    now += 25_000;
    run(...batch);
  };
  t.teardown(() => {
    executor.run = run;
  });
  t.equal(core.auditDelayMs, 200, 'the machine is idle from this call on');
  now += 200;
  t.equal(core.auditDelayMs, 0);
  core.audit();
  t.match(core.takeAudits(), [{ id: 'long', skipped: 'time', tokens: [] }]);
  executor.run = run;
  t.match(await auditsOf(core), [{ id: 'next', skipped: null }]);
});
