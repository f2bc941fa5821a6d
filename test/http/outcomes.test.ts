/** The outcomes of one run of a handful of requests, by every tool that reports them. */
import t from 'tap';
import { ask } from '../../bench/loadgen/ask.js';
import { NO_BUDGET } from '../../bench/loadgen/budgets.js';
import { outcomeOfSent, summaryOf } from '../../bench/loadgen/summary.js';
import { serverAt } from '../../bench/remote/server.js';
import { judged } from '../simulator/outcomes.js';
import type { Outcome as Simulated } from '../simulator/simulated-engine.js';
import { OUTCOMES } from '../../src/protocol/outcome.js';
import type { Script } from '../fakes/engine.js';
import { build, says } from '../fakes/server.js';

const landed = { at: 3, pressure: 50, probability: 0.2 };

/** A script for each outcome, and how the simulator names the same end. */
const RUN: readonly [(typeof OUTCOMES)[number], budgetMs: number, Script, Simulated['reason']][] = [
  ['whole', 60_000, says('Paris is here.')(), 'length'],
  ['landed', 60_000, says('Paris is here.', { ended: { landed } })(), 'landed'],
  ['late', 1, says('Paris is here.', { pace: 5 })(), 'length'],
  ['cut', 60_000, says('Paris is', { end: 'deadline' })(), 'deadline'],
  ['empty', 60_000, { tokens: [], end: 'deadline' }, 'deadline'],
  ['refused', 60_000, { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 70_000 } }, 'rejected'],
];

/** The end of a request as the simulator has it. */
function simulated(outcome: string, totalMs: number, reason: Simulated['reason']): Simulated {
  const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'land' } as const;
  const isBegun = outcome !== 'empty' && reason !== 'rejected';
  return {
    request: {
      ...{ id: outcome, arrivedAt: 0, promptLength: 5, lengths: [], maxTokens: 9, isExactLength: false, budget },
      ...{ kind: 'completion', minExit: null, maxExit: null, budgetClass: outcome },
    },
    admission: { kind: 'reject', leastFeasibleMs: null },
    ...{ firstTokenAt: isBegun ? 2 : null, endedAt: 20, path: [], tokens: isBegun ? 3 : 0, reason, preemptions: 0 },
  };
}

void t.test('report, metrics, log, bench and simulator say the same of one run', async (t) => {
  const server = await build(t, undefined, { keepsLog: true });
  const remote = serverAt(server.url, null);
  const sent = [];
  for (const [budgetClass, totalMs, script] of RUN) {
    server.engine.script = () => script;
    const headers = { 'x-latency-budget-ms': String(totalMs) };
    const answer = await ask(remote, 'fake', { path: '/completions', body: { prompt: 'x' } }, { headers });
    sent.push({ job: { budgetClass, maxTokens: null, budget: { ...NO_BUDGET, totalMs } }, atMs: 0, answer });
  }
  const wanted = RUN.map(([outcome]) => outcome);
  t.same(
    sent.map(({ answer }) => answer.outcome),
    wanted,
    'report, or error',
  );
  t.same(sent.map(outcomeOfSent), wanted, 'bench');
  const { attainment, outcomes } = summaryOf(sent);
  t.equal(attainment, 2 / 6);
  const simulation = RUN.map(([outcome, totalMs, , reason]) => judged(simulated(outcome, totalMs, reason)));
  t.same(simulation, wanted, 'simulator');
  const { text: metrics } = await server.get('/metrics');
  for (const outcome of OUTCOMES) {
    const counts = [...metrics.matchAll(new RegExp(`budget_requests_total\\{[^}]*"${outcome}"[^}]*\\} (\\d+)`, 'g'))];
    t.equal(
      counts.reduce((sum, [, count]) => sum + Number(count), 0),
      outcomes[outcome],
      `metric ${outcome}`,
    );
  }
  const lines = (await server.logged(RUN.length)).filter(({ route }) => route === '/v1/completions');
  const logged = lines.map(({ outcome, sortie }) => outcome ?? (sortie as { outcome?: string } | undefined)?.outcome);
  t.same(logged, wanted, 'log');
});
