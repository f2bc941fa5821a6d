/** Speculation of a looped model: fewer loops draft, all loops verify, and the answer stays that of all loops. */
import t from 'tap';
import type { DraftCount } from '../../src/engine/protocol.js';
import { draftAt, draftExits } from '../../src/engine/speculation/exit-draft.js';
import { Sequence } from '../../src/engine/sequence.js';
import { advanceTo, drain, greedy, makeCore, makeExecutor, openSlot, PROMPTS } from '../engine/helper.js';
import { LOOPS, loopedModel } from './looped-model.js';

const executor = await makeExecutor(t, { modelDir: await loopedModel(t.testdir(), 2) });
const [start = []] = PROMPTS;

t.afterEach(() => {
  executor.forget(0);
});

void t.test('one to three loops may draft for four, and leave their states for the verification', async (t) => {
  const sequence = new Sequence(greedy('a', start, LOOPS, 8), LOOPS - 1);
  const slot = openSlot(executor, []);
  slot.tokens = sequence.tokens;
  sequence.slot = slot;
  advanceTo(executor, slot, LOOPS - 1, start.length - 1);
  t.strictSame(draftExits(executor, sequence), [0, 1, 2]);
  const drafts = [0, 1, 2].map((exit) => {
    const draft = draftAt(executor, sequence, exit, 4);
    t.strictSame(sequence.tokens, start, 'the sequence has its old tokens');
    t.equal(slot.frontier(LOOPS - 1), start.length - 1);
    if (draft.length > 0) t.ok(slot.frontier(exit) >= start.length, 'the loops of the draft are ahead');
    slot.truncate(start.length - 1);
    return draft;
  });
  t.ok(
    drafts.some((draft) => draft.length > 0),
    `drafted ${drafts.map((draft) => draft.length).join(', ')}`,
  );
});

void t.test('drafted answers equal the plain ones', async (t) => {
  let rounds = 0;
  for (const [index, prompt] of PROMPTS.entries()) {
    const answers = (['off', 'all'] as const).map((speculate) => {
      const core = makeCore(executor, { speculate, prefixReuse: false });
      const drafts: DraftCount[] = [];
      core.submit(greedy(`${index}`, prompt, LOOPS, 48));
      const answer = drain(core, ({ work }) => {
        if (work?.draft) drafts.push(work.draft);
      }).get(`${index}`);
      executor.forget(0);
      return { tokens: answer?.tokens, drafts };
    });
    const [plain, drafted] = answers;
    t.equal(plain?.tokens?.length, 48);
    t.strictSame(drafted?.tokens, plain?.tokens, `prompt ${index}`);
    t.equal(plain?.drafts.length, 0);
    rounds += drafted?.drafts.length ?? 0;
  }
  t.ok(rounds > 0, `${rounds} rounds had a draft`);
});
