/**
 * Logits of a KV cache in pages on a GPU, in fp16, against those of the CPU's slots in fp32, for the same course of work.
 * Bound: an rms of 5e-3 over all logits of the file, and of 1e-2 for one position. Logits reach 3, so one rounding of
 * fp16 is 1e-3, and a state passes some 40 of them.
 */
import t, { type Test } from 'tap';
import { PagedModel } from '../../src/engine/model/paged-model.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import { advance, advanceTo, openSlot, rms } from '../engine/helper.js';
import { decode, mixedBatches, needsGpu, tinyPair, tokens } from './helper.js';

const BOUND = 5e-3;
const WORST = 1e-2;

if (needsGpu()) {
  const { cpu, gpu } = await tinyPair(t);
  const exits = cpu.units.exits.map((_, exit) => exit);
  const deepest = exits.length - 1;
  const page = gpu.model instanceof PagedModel ? gpu.model.limits.page : 0;

  /** The rms of each compared position. */
  const errors: number[] = [];

  t.afterEach(() => {
    cpu.forget(0);
    gpu.forget(0);
  });

  /** The same work on both; each result is a list of logits. */
  const same = (t: Test, what: string, work: (executor: Executor) => Float32Array[]): void => {
    const [expected, found] = [work(cpu), work(gpu)];
    t.equal(found.length, expected.length);
    expected.forEach((logits, i) => {
      const error = rms(logits, found[i] ?? new Float32Array(0));
      errors.push(error);
      t.ok(error <= WORST, `${what}, ${i}: rms ${error}`);
    });
  };

  void t.test('every exit, for prompts of one position up to several pages', (t) => {
    for (const exit of exits)
      for (const length of [1, 5, 31, 32, 64, 65, 150])
        same(t, `exit ${exit}, ${length} positions`, (executor) => {
          const slot = openSlot(executor, tokens(length, exit));
          advanceTo(executor, slot, exit, length - 1);
          const logits = decode(executor, [[slot, exit]]);
          executor.table.drop(slot);
          return logits;
        });
    t.end();
  });

  void t.test('a batch mixes exits, lengths, a chunk and catch-up', (t) => {
    same(t, 'mixed', (executor) => mixedBatches(executor).logits);
    t.end();
  });

  void t.test('rejected positions are written again', (t) => {
    same(t, 'rewound', (executor) => {
      const slot = openSlot(executor, tokens(80, 1));
      advanceTo(executor, slot, deepest, 79);
      slot.tokens.push(...tokens(6, 9));
      const output = advance(executor, slot, deepest, 86);
      output?.toHead(79, 6);
      const found = Array.from({ length: 6 }, (_, row) => executor.head.fullLogits(row).slice());
      slot.truncate(81);
      slot.tokens.length = 81;
      slot.tokens.push(42);
      return [...found, ...decode(executor, [[slot, deepest]])];
    });
    t.end();
  });

  void t.test('sequences share full pages of a prompt, at any depth of either', (t) => {
    for (const [source, own] of [
      [deepest, 0],
      [0, deepest],
      [1, deepest],
    ] as const)
      same(t, `exit ${own} behind exit ${source}`, (executor) => {
        const prompt = tokens(150, 2);
        const from = openSlot(executor, prompt);
        const to = openSlot(executor, [...prompt.slice(0, 140), 7, 8, 9]);
        advanceTo(executor, from, source, 149);
        executor.table.copyPrefix(from, to, 140);
        if (executor === gpu) t.equal(to.length, 2 * page);
        advanceTo(executor, to, own, to.tokens.length - 1);
        const found = decode(executor, [[to, own]]);
        // The source goes on, and the other one's positions stay.
        advanceTo(executor, from, deepest, 149);
        found.push(...decode(executor, [[from, deepest]]));
        to.tokens.push(11);
        found.push(...decode(executor, [[to, own]]));
        for (const slot of [from, to]) executor.table.drop(slot);
        return found;
      });
    t.end();
  });

  void t.test('the head lowers logits, selects the top and finds the most likely ids', (t) => {
    const course = (executor: Executor) => {
      const slots = [20, 30, 40].map((length, i) => openSlot(executor, tokens(length, i)));
      for (const slot of slots) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
      decode(
        executor,
        slots.map((slot) => [slot, deepest]),
      );
      const { head } = executor;
      head.applyPenalties(0, new Map([[5, 2]]));
      head.applyPenalties(2, new Map([6, 7].map((id) => [id, id === 6 ? 1 : Infinity])));
      head.inverseTemperatures.set([1, 0.5, 2]);
      head.targets.set([1n, 9n, 6n]);
      head.choose(1, 2);
      const rows = [1, 2].map((row) => head.selected(row));
      const all = [0, 1, 2].map((row) => head.fullLogits(row).slice());
      return { most: Number(head.argmaxIds[0]), rows, all };
    };
    const [expected, found] = [course(cpu), course(gpu)];
    t.equal(found.most, expected.most);
    found.rows.forEach((row, i) => {
      const reference = expected.rows[i];
      t.equal(row.ids[0], reference?.ids[0]);
      for (const field of ['lse', 'lseT', 'target'] as const)
        t.ok(Math.abs(row[field] - (reference?.[field] ?? NaN)) <= 2e-2, `${field}: ${row[field]}`);
      t.ok(rms(row.values, reference?.values ?? row.values) <= WORST);
      t.same(
        row.values,
        row.values.toSorted((a, b) => b - a),
      );
    });
    found.all.forEach((logits, row) => {
      const finite = (values: Float32Array): Float32Array => values.filter((value) => Number.isFinite(value));
      t.ok(rms(finite(expected.all[row] ?? logits), finite(logits)) <= WORST, `logits of row ${row}`);
    });
    t.equal(found.all[2]?.[7], -Infinity);
    t.end();
  });

  void t.test('over all positions the rms is that of fp16', (t) => {
    const error = Math.sqrt(errors.reduce((sum, each) => sum + each * each, 0) / errors.length);
    t.ok(error <= BOUND, `${error} over ${errors.length} positions`);
    t.comment(`rms ${error.toExponential(1)}, of one position at most ${Math.max(...errors).toExponential(1)}`);
    t.end();
  });
}
