/**
 * Fleets on paper, by the simulator: `npm run bench:fleet -- --cost FILE [--replicas LIST] [--rate N] [--requests N]`.
 *
 * Conversations of four turns arrive at a rate per replica. Each policy of a balancer serves the same arrivals: least
 * request, load reports (deploy/envoy), and conversations that keep their replica. Then a third of the replicas, a zone,
 * is lost halfway. FILE is what `sortie calibrate` wrote.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { costModel, predictMs } from '../src/cost/model.js';
import { defaultPolicy, Router } from '../src/router/index.js';
import { affine, type Balancer, type FleetRequest, leastRequest, weighted } from '../src/simulate/balance.js';
import { parseCostFile } from '../src/simulate/costs.js';
import type { Machine } from '../src/simulate/engine.js';
import { type Fleet, simulateFleet } from '../src/simulate/replicas.js';
import { isMet, reportOf } from '../src/simulate/report.js';
import { seeded } from '../src/util/random.js';
import { positive, positives } from './options.js';

const TURNS = 4;
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
/** Mean time between the turns of a conversation, ms. */
const THINK_MS = 10_000;

const { values } = parseArgs({
  options: {
    cost: { type: 'string' },
    replicas: { type: 'string', default: '2,3,10,100' },
    rate: { type: 'string', default: '1' },
    requests: { type: 'string', default: '60' },
  },
});
if (values.cost === undefined) throw new Error('--cost must be a file that `sortie calibrate` wrote');
const { cost, shape } = parseCostFile(readFileSync(values.cost, 'utf8'));
const costs = costModel(cost, shape);
const rate = positive('--rate', values.rate);
const each = positive('--requests', values.requests);

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

console.log('replicas | policy | in budget | mean quality | in budget, a zone lost halfway | answers that broke off');
for (const replicas of positives('--replicas', values.replicas)) {
  const requests = conversations(each * replicas, rate * replicas);
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
    const met = ({ outcomes }: typeof whole): string => (outcomes.filter(isMet).length / requests.length).toFixed(3);
    const quality = reportOf(whole.outcomes, shape).meanQuality.toFixed(3);
    console.log([replicas, name, met(whole), quality, met(less), less.lost.length].join(' | '));
  }
}
