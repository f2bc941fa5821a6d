/**
 * Fleets on paper, by the simulator: `npm run bench:fleet -- --cost FILE [--replicas LIST] [--rates LIST] [--seconds N]
 * [--slow SHARE]`.
 *
 * Conversations of four turns arrive at a rate per replica. Each policy of a balancer serves the same arrivals: least
 * request, load reports (deploy/envoy), and conversations that keep their replica. A third of the replicas, a zone, is
 * lost halfway. FILE is what `sortie calibrate` wrote. A share of the replicas may have half the speed.
 */
import { readFileSync } from 'node:fs';
import { fraction, positives } from '../src/cli/values.js';
import { SERVE_OPTIONS } from '../src/config.js';
import { costModel, predictMs } from '../src/cost/model.js';
import { defaultPolicy, Router } from '../src/scheduler/router.js';
import { affine, type Balancer, type FleetRequest, leastRequest, weighted } from '../src/simulate/balance.js';
import { parseCostFile } from '../src/simulate/costs.js';
import type { Machine } from '../src/simulate/engine.js';
import { simulateFleet } from '../src/simulate/replicas.js';
import { isMet, reportOf } from '../src/simulate/report.js';
import { seeded } from '../src/util/random.js';
import { number, numbers, optionsOf, required } from './options.js';

const TURNS = 4;
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
/** Most answers of a fleet that is not overloaded take less, ms. */
const EARLY_MS = 4000;
/** Mean time between the turns of a conversation, ms. */
const THINK_MS = 10_000;

const { rates, slow, seconds, ...values } = optionsOf('bench:fleet', 'policies of balancers on paper, a lost zone', {
  cost: required('file', 'costs that `sortie calibrate` wrote'),
  replicas: numbers('sizes of the fleet', [2, 3, 10, 100], positives),
  rates: numbers('requests a second of each replica', [2]),
  seconds: number('duration', 40),
  slow: number('share of the replicas with half the speed', 0, fraction),
});
const { cost, shape } = parseCostFile(readFileSync(values.cost, 'utf8'));
const costs = costModel(cost, shape);
const durationMs = 1000 * seconds;
/** As a server with its defaults. */
const minExit = shape.exits.find(({ right }) => right >= SERVE_OPTIONS.minRight.default)?.layer ?? null;

/**
 * The turns of conversations, in order of arrival. A turn's prompt begins with the turns before it. Conversations begin
 * early enough for a constant rate from 0 on.
 */
function conversations(perSecond: number): FleetRequest[] {
  const random = seeded(20_26);
  const exponential = (mean: number): number => -mean * Math.log(1 - random());
  const requests: FleetRequest[] = [];
  let session = 0;
  for (let at = -2 * TURNS * THINK_MS; at < durationMs; at += exponential((1000 * TURNS) / perSecond)) {
    session++;
    let [arrivedAt, shared] = [at, 0];
    for (let turn = 0; turn < TURNS; turn++) {
      const tokens = 20 + Math.floor(random() * 80);
      const promptLength = shared + 30 + Math.floor(random() * 100);
      const totalMs = BUDGETS[session % BUDGETS.length] ?? NaN;
      const request: FleetRequest = {
        ...{ id: `${session}.${turn}`, session: `s${session}`, sharedPositions: shared, arrivedAt, promptLength },
        ...{ lengths: shape.exits.map(() => tokens), maxTokens: tokens, isExactLength: true },
        ...{ lengthGroup: { kind: 'chat', key: null }, minExit, maxExit: null, budgetClass: String(totalMs) },
        budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'land' },
      };
      if (arrivedAt >= 0 && arrivedAt < durationMs) requests.push(request);
      shared = promptLength + tokens;
      arrivedAt += exponential(THINK_MS);
    }
  }
  return requests.sort((a, b) => a.arrivedAt - b.arrivedAt);
}

const machineOf = (factor: number): Machine => ({
  ...{ slots: 32, kvPositions: 18_396 },
  actual: (work) => factor * predictMs(costs, work),
});
const policies: Readonly<Record<string, () => Balancer>> = {
  'least request': () => leastRequest(seeded(1)),
  'load reports': weighted,
  'by conversation': () => affine(leastRequest(seeded(1))),
};

const at = durationMs / 2;
/** Requests whose answers end before the loss, except for a few late ones, and those that arrive after it. */
const isEarly = ({ arrivedAt }: FleetRequest): boolean => arrivedAt < at - EARLY_MS;
const isLate = ({ arrivedAt }: FleetRequest): boolean => arrivedAt >= at;

console.log(
  'replicas | requests/s each | policy | in budget | mean quality | in budget, a zone lost | answers that broke off | run s',
);
for (const replicas of values.replicas)
  for (const rate of rates) {
    const requests = conversations(rate * replicas);
    const loss = { at, servers: Array.from({ length: Math.floor(replicas / 3) }, (_, i) => i) };
    for (const [name, balancerOf] of Object.entries(policies)) {
      const start = performance.now();
      const { outcomes, lost } = simulateFleet(requests, {
        // The lost zone has the first replicas, and the slow ones are the last.
        machines: Array.from({ length: replicas }, (_, i) => machineOf(i >= replicas * (1 - slow) ? 2 : 1)),
        ...{ routerOf: () => new Router(shape, cost, defaultPolicy), costs, policy: defaultPolicy },
        ...{ balancer: balancerOf(), loss },
      });
      const met = new Set(outcomes.filter(isMet).map(({ request }) => request.id));
      const share = (all: readonly FleetRequest[]): string =>
        (all.filter(({ id }) => met.has(id)).length / all.length).toFixed(3);
      const { meanQuality } = reportOf(
        outcomes.filter(({ request }) => isEarly(request)),
        shape,
      );
      const runSeconds = Math.round((performance.now() - start) / 1000);
      const shares = [share(requests.filter(isEarly)), meanQuality.toFixed(3), share(requests.filter(isLate))];
      console.log([replicas, rate, name, ...shares, lost.length, runSeconds].join(' | '));
    }
  }
