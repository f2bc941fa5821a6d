/** Many requests at once, by an executor over stages, exit blocks or loops: each has its own answer. */
import t from 'tap';
import { answersTo, answerTo, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';
import { blocksModel, loopedModel } from '../tiny-model.js';

/** Small and seeded, so that a failure is reproducible. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

for (const [name, modelDir] of Object.entries({ blocks: await blocksModel(t, 'w8a8'), loops: await loopedModel(t) }))
  void t.test(
    `${name}: 100 requests at random depths, lengths and cancels: each ends once, with its own tokens`,
    async (t) => {
      const executor = await makeExecutor(t, { modelDir });
      const random = numbers(1);
      const core = makeCore(executor, { maxRunning: 12 });
      const exits = executor.units.exits.map(({ layer }) => layer);
      const { vocab } = executor.model.manifest.architecture;
      const kinds = Array.from({ length: 12 }, (_, kind) => {
        const prompt = [...(PROMPTS[kind % 2] ?? []), 300 + kind].map((id) => id % vocab);
        return greedy(`kind-${kind}`, prompt, exits[kind % exits.length] ?? 0, 3 + (kind % 5) * 2);
      });
      const expected = kinds.map((request) => {
        const { tokens } = answerTo(makeCore(executor, { prefixReuse: false }), request);
        executor.forget(0);
        return tokens;
      });
      const requests = Array.from({ length: 100 }, (_, index) => ({ kind: random(kinds.length), id: `r${index}` }));
      const cancelAt = new Map(requests.filter(() => random(4) === 0).map(({ id }) => [id, random(12)]));
      const asked = requests.flatMap(({ kind, id }) =>
        kinds.slice(kind, kind + 1).map((request) => ({ ...request, id })),
      );
      let steps = 0;
      const ends = new Map<string, number>();
      const seen = new Map<string, number>();
      const answers = answersTo(core, asked, (step) => {
        steps++;
        for (const { id } of step.ended) ends.set(id, (ends.get(id) ?? 0) + 1);
        for (const { id } of step.tokens) seen.set(id, (seen.get(id) ?? 0) + 1);
        for (const [id, after] of cancelAt) if ((seen.get(id) ?? 0) >= after && steps > after) core.cancel(id);
      });
      t.equal(ends.size, 100);
      t.ok(
        [...ends.values()].every((count) => count === 1),
        'no request ends twice',
      );
      let cancelled = 0;
      for (const { kind, id } of requests) {
        const answer = answers.get(id);
        const whole = expected[kind] ?? [];
        if (answer?.ended?.reason === 'cancelled') {
          cancelled++;
          t.strictSame(
            answer.tokens,
            whole.slice(0, answer.tokens.length),
            `${id} holds the beginning of its own answer`,
          );
        } else {
          t.equal(answer?.ended?.reason, 'length');
          t.strictSame(answer?.tokens, whole, `${id} equals its answer alone`);
        }
      }
      t.ok(cancelled > 10, `${cancelled} were cancelled`);
      t.equal(executor.table.used('live'), 0, 'no live slot is left');
      t.equal(core.scheduler.slots.running.length + core.scheduler.slots.waiting.length, 0);
    },
  );
