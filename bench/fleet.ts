/**
 * Fleets on paper, by the simulator: `npm run bench:fleet -- --cost FILE [--replicas LIST] [--rate N] [--requests N]`.
 *
 * Conversations of four turns arrive at a rate per replica. Each policy of a balancer serves the same arrivals: least
 * request, load reports (deploy/envoy), and conversations that keep their replica. Then a third of the replicas, a zone,
 * is lost halfway. FILE is what `sortie calibrate` wrote.
 */
import { readFileSync } from 'node:fs';
import { positives } from '../src/cli/values.js';
import { costModel, predictMs } from '../src/cost/model.js';
import { defaultPolicy, Router } from '../src/router/index.js';
import { affine, type Balancer, type FleetRequest, leastRequest, weighted } from '../src/simulate/balance.js';
import { parseCostFile } from '../src/simulate/costs.js';
import type { Machine } from '../src/simulate/engine.js';
import { type Fleet, type FleetRun, simulateFleet } from '../src/simulate/replicas.js';
import { isMet, reportOf } from '../src/simulate/report.js';
import { seeded } from '../src/util/random.js';
import { number, numbers, optionsOf, required } from './options.js';
import { tableOf } from './table.js';

const TURNS = 4;
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
/** Mean time between the turns of a conversation, ms. */
const THINK_MS = 10_000;

const values = optionsOf('bench:fleet', 'policies of balancers on paper, a lost zone', {
  cost: required('file', 'costs that `sortie calibrate` wrote'),
  replicas: numbers('sizes of the fleet', [2, 3, 10, 100], positives),
  rate: number('requests a second of each replica', 1),
  requests: number('requests of each replica', 60),
});
const { cost, shape } = parseCostFile(readFileSync(values.cost, 'utf8'));
const costs = costModel(cost, shape);

/** The turns of conversations, in order of arrival. A turn's prompt begins with the turns before it. */
function conversations(count: number, perSecond: number): FleetRequest[] {
  const random = seeded(20_26);
  const exponential = (mean: number): number => -mean * Math.log(1 - random());
  const requests: FleetRequest[] = [];
  let at = 0;
  for (let session = 0; requests.length < count; session++) {
    at += exponential((1000 * TURNS) / perSecond);
    let [arrivedAt, shared] = [at, 0];
    for (let turn = 0; turn < TURNS; turn++) {
      const tokens = 20 + Math.floor(random() * 80);
      const promptLength = shared + 30 + Math.floor(random() * 100);
      const totalMs = BUDGETS[session % BUDGETS.length] ?? NaN;
      requests.push({
        ...{ id: `${session}.${turn}`, session: `s${session}`, sharedPositions: shared, arrivedAt, promptLength },
        ...{ lengths: shape.exits.map(() => tokens), maxTokens: tokens, isExactLength: true },
        ...{ lengthGroup: { kind: 'chat', key: null }, minExit: null, maxExit: null, budgetClass: String(totalMs) },
        budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'land' },
      });
      shared = promptLength + tokens;
      arrivedAt += exponential(THINK_MS);
    }
  }
  return requests.sort((a, b) => a.arrivedAt - b.arrivedAt);
}

const machine: Machine = { slots: 32, kvPositions: 18_396, actual: (work) => predictMs(costs, work) };
const policies: Readonly<Record<string, () => Balancer>> = {
  'least request': () => leastRequest(seeded(1)),
  'load reports': weighted,
  'by conversation': () => affine(leastRequest(seeded(1))),
};

const head = ['replicas', 'policy', 'in budget', 'mean quality', 'in budget, a zone lost halfway', 'broke off'];
const rows: string[][] = [];
for (const replicas of values.replicas) {
  const requests = conversations(values.requests * replicas, values.rate * replicas);
  const at = requests[requests.length >> 1]?.arrivedAt ?? 0;
  const zone = Array.from({ length: Math.floor(replicas / 3) || 1 }, (_, i) => i);
  for (const [name, balancerOf] of Object.entries(policies)) {
    const run = (more: Partial<Fleet>) =>
      simulateFleet(requests, {
        machines: new Array<Machine>(replicas).fill(machine),
        ...{ routerOf: () => new Router(shape, cost, defaultPolicy), costs, policy: defaultPolicy },
        ...{ balancer: balancerOf(), ...more },
      });
    const [whole, less] = [run({}), run({ loss: { at, servers: zone } })];
    const met = ({ outcomes }: FleetRun): string => (outcomes.filter(isMet).length / requests.length).toFixed(3);
    const quality = reportOf(whole.outcomes, shape).meanQuality.toFixed(3);
    rows.push([String(replicas), name, met(whole), quality, met(less), String(less.lost.length)]);
  }
}
for (const line of tableOf([head, ...rows])) console.log(line);
