/** Several keys: the promises of one leave the others their share. */
import t from 'tap';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { admission, asking, changed, natural, plannerOf, serve, simulated, stateOf, total } from './fixtures.js';
import { layers } from './sample.js';

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

void t.test(
  'one promise of a key is made whatever other keys wait for, and a second one within its share',
  async (t) => {
    const rivals = ['b', 'c', 'd'].map((tenant) => asking(tenant, null, { ...natural, tenant }));
    const ask = (id: string, tenant: string) => asking(id, total(220, 'land'), { ...natural, tenant });
    const first = changed(ask('first', 'a'), { serviceClass: 'guaranteed' });
    const classOf = (tenant: string, waiting: readonly ReturnType<typeof ask>[]): string => {
      const found = admission(plannerOf(), ask('new', tenant), stateOf({ waiting }));
      return found.kind === 'admit' ? found.serviceClass : 'rejected';
    };
    t.equal(classOf('a', rivals), 'guaranteed');
    t.equal(classOf('a', [first]), 'guaranteed', 'a key alone has the whole machine');
    t.equal(classOf('a', [...rivals, first]), 'rejected', 'and no sentence without a promise');
    t.equal(classOf('e', [...rivals, first]), 'guaranteed', 'the first one of another key');
  },
);
