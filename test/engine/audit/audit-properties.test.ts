import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../../src/cli/options/config.js';
import { convert } from '../../../src/convert/convert.js';
import type { AuditEvent, SequenceRequest } from '../../../src/protocol/index.js';
import { auditsOf, drain, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';

const audit = { busyShare: 1 };
const executor = await makeExecutor(t, { audit, maxRunning: 4 });
const { table } = executor;
const layers = executor.model.manifest.exits.map(({ layer }) => layer);
/**
 * A model for schedules of many steps, with exits of both kinds, or the folder that SORTIE_TEST_SMALL names. Steps, memory
 * and audits do not depend on its size.
 */
const tiny = await makeExecutor(t, {
  modelDir: process.env.SORTIE_TEST_SMALL ?? (await tinyModel()),
  audit,
  maxRunning: 4,
});
const tinyLayers = tiny.units.exits.map(({ layer }) => layer);

t.afterEach(() => {
  executor.forget(0);
});

async function tinyModel(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sortie-audit-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const source = join(packageRoot, 'test', 'golden', 'tiny');
  const out = join(dir, 'out');
  const exitBlocks = join(source, 'exit-blocks.safetensors');
  await convert({ source, out, exits: [1, 2, 5], exitBlocks, kernels: ['w8a8'], compress: false, force: false });
  return out;
}

/** Numbers in [0, 1) that depend on the seed alone. */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Requests with shared beginnings, at random exits, greedy and sampled, each with the step in which it arrives. */
function schedule(seed: number): { at: number; request: SequenceRequest }[] {
  const next = draws(seed);
  const pick = <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)] as T;
  return Array.from({ length: 12 }, (_, i) => {
    const prompt = [
      ...pick(PROMPTS).slice(0, 180),
      ...Array.from({ length: Math.floor(next() * 40) }, () => Math.floor(next() * 900)),
    ].map((token) => 3 + (token % 250));
    const base = greedy(`${seed}-${i}`, prompt, pick(tinyLayers), 2 + Math.floor(next() * 20));
    const sampling = { ...base.sampling, temperature: pick([0, 0.8]), seed: i, presencePenalty: pick([0, 0, 0.5]) };
    return { at: Math.floor(next() * 60), request: { ...base, sampling, audit: next() < 0.3 } };
  });
}

interface Run {
  readonly tokens: Record<string, number[]>;
  readonly slots: readonly unknown[];
  readonly cached: number;
  readonly audited: number;
}

/** Runs a schedule. @param audits how often a chunk of an audit runs between two steps; null without audits */
function run(seed: number, audits: number | null): Run {
  tiny.forget(0);
  // Plans depend on time, so it passes in steps alone, with each look at the clock.
  let now = 0;
  let isInStep = false;
  const core = makeCore(tiny, { maxRunning: 4, ...(audits !== null && { audit }) }, () => (isInStep ? ++now : now));
  const stepTokens = () => {
    isInStep = true;
    const events = core.busy ? core.step().tokens : [];
    isInStep = false;
    core.rest();
    return events;
  };
  const next = draws(seed + 1);
  const tokens: Record<string, number[]> = {};
  const open = schedule(seed);
  for (let step = 0; open.length > 0 || core.busy; step++) {
    for (const { request } of open.filter(({ at }) => at <= step)) core.submit({ ...request, arrivedAt: now });
    open.splice(0, open.length, ...open.filter(({ at }) => at > step));
    for (const event of stepTokens()) (tokens[event.id] ??= []).push(event.token);
    if (audits !== null && next() < audits) core.audit();
  }
  const audited: AuditEvent[] = [];
  for (; core.auditDelayMs < Infinity; now += 10) {
    core.audit();
    audited.push(...core.takeAudits());
  }
  // The same prefixes stay, in the same state.
  const slots = tiny.table.slots.map(({ tokens: held, frontiers }) => [held.length, [...frontiers]]);
  return {
    tokens,
    slots,
    cached: tiny.table.used('cached'),
    audited: audited.filter(({ skipped }) => skipped === null).length,
  };
}

for (const seed of [1, 2])
  void t.test(`audits change no token and no memory, schedule ${seed}`, async (t) => {
    const plain = run(seed, null);
    const audited = run(seed, 0.7);
    t.same(audited.tokens, plain.tokens, 'tokens');
    t.same(audited.slots, plain.slots, 'stored prefixes');
    t.equal(audited.cached, plain.cached, 'bytes');
    t.equal(tiny.table.used('live'), 0);
    t.ok(audited.audited >= 5, `${audited.audited} answers were audited`);
  });

void t.test('sequences that need the memory evict an audit', async (t) => {
  const bytes = table.bytesAt(layers.length - 1, 400);
  const core = makeCore(executor, { maxRunning: 4, audit, kvMemoryBytes: 4.1 * bytes });
  const base = greedy('audited', PROMPTS[1] ?? [], layers[0] ?? 0, 8);
  core.submit({ ...base, maxTokens: 90 });
  drain(core);
  for (let i = 0; i < 2; i++) core.audit();
  const held = table.used('cached');
  for (let i = 0; i < 4; i++) {
    const prompt = (PROMPTS[2] ?? []).map((token) => token + i + 1);
    core.submit({
      ...base,
      id: `b${i}`,
      prompt: [...prompt, ...prompt.slice(0, 100)],
      depth: { ...base.depth, minExit: layers.at(-1) ?? 0, maxExit: layers.at(-1) ?? 0 },
    });
  }
  const answers = [...drain(core).values()];
  t.ok(held > 0);
  t.same(
    answers.map(({ tokens }) => tokens.length),
    [8, 8, 8, 8],
    'the sequences finished',
  );
  const audits = await auditsOf(core);
  t.match(
    audits.find(({ id }) => id === 'audited'),
    { skipped: 'memory' },
  );
  t.ok(table.used('cached') <= 4.1 * bytes);
});

void t.test('an answer that would take too much memory is left out', async (t) => {
  const core = makeCore(executor, { maxRunning: 4, audit, kvMemoryBytes: 2 * table.bytesAt(layers.length - 1, 330) });
  core.submit(greedy('large', PROMPTS[2] ?? [], layers[0] ?? 0, 4));
  drain(core);
  t.match(await auditsOf(core), [{ id: 'large', skipped: 'memory' }]);
});
