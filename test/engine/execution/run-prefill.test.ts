import t from 'tap';
import {
  advance,
  advanceTo,
  argmax,
  decodeRows,
  distance,
  logitsAt,
  makeExecutor,
  margin,
  openSlot,
  PROMPTS,
  rms,
} from '../helper.js';

const executor = await makeExecutor(t);
const { table } = executor;
const prompt = PROMPTS[2] ?? [];
const last = prompt.length - 1;
const deepest = executor.units.deepest;

t.afterEach(() => {
  executor.forget(0);
});

void t.test('deepening later gives the same bits as a deep prefill', async (t) => {
  const whole = openSlot(executor, prompt);
  advanceTo(executor, whole, deepest, last);
  const expected = executor.units.exits.map((_, exit) => {
    // The trunk has these positions already; only the exit's own block is left.
    advanceTo(executor, whole, exit, last);
    const logits = logitsAt(executor, whole, exit);
    whole.truncate(last);
    return logits;
  });

  const staged = openSlot(executor, prompt);
  for (const exit of [0, 2, 1, deepest]) {
    advanceTo(executor, staged, exit, last);
    t.equal(distance(logitsAt(executor, staged, exit), expected[exit] ?? new Float32Array(0)), 0, `exit ${exit}`);
    staged.truncate(last);
  }
});

/**
 * Attention over one position (decode) and over several (catch-up) differs in the last bits of a float. Occasionally,
 * that changes a rounding to 8 bits (ARCHITECTURE.md, "Depth, exactly"). If one run decodes positions and the other
 * catches up over them, logits agree to w8a8's own noise (rms .21 measured). Tokens agree where the choice is clearer than
 * that. All other bits are equal, and with a KV cache of bytes, all bits are equal.
 */
const NOISE_RMS = 0.35;
const CLEAR = 1;

/** A text that continues by itself: "The cat sat on the mat. The cat sat on the mat. The cat". */
const REPEATING = [504, 2644, 2643, 335, 260, 1171, 30, 378, 2644, 2643, 335, 260, 1171, 30, 378, 2644];

for (const start of [PROMPTS[0] ?? [], REPEATING])
  void t.test(`depth 10 -> 30 -> 15 after ${start.length} tokens equals a run with all depths all along`, async (t) => {
    const depths = [0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1].map((exit) => Math.min(exit, deepest));
    const firstDeep = depths.findIndex((exit) => exit !== depths[0]);

    // All depths all along: every step runs the whole trunk, and the token comes from the scheduled exit.
    const all = openSlot(executor, start);
    const expected: Float32Array[] = [];
    for (const exit of depths) {
      const before = all.tokens.length - 1;
      let token = -1;
      for (const depth of [exit, deepest]) {
        advanceTo(executor, all, depth, before);
        const logits = logitsAt(executor, all, depth);
        if (token < 0) {
          token = argmax(logits);
          expected.push(logits);
        }
        all.truncate(before);
      }
      decodeRows(executor, [{ slot: all, exit: executor.exit(deepest) }]);
      all.tokens.push(token);
    }

    const varied = openSlot(executor, start);
    let clear = 0;
    for (const [step, exit] of depths.entries()) {
      const target = varied.tokens.length - 1;
      if (varied.least(executor.exit(exit).needed) < target) advance(executor, varied, exit, target);
      const logits = logitsAt(executor, varied, exit);
      const whole = expected[step] ?? new Float32Array(0);
      const isExact = step < firstDeep || executor.model.manifest.kvType === 'i8';
      if (isExact) t.equal(distance(logits, whole), 0, `step ${step}`);
      else t.ok(rms(logits, whole) < NOISE_RMS, `step ${step}: ${rms(logits, whole)}`);
      if (margin(whole) > CLEAR) {
        clear++;
        t.equal(argmax(logits), argmax(whole), `step ${step} is clear`);
      }
      varied.tokens.push(all.tokens[target + 1] ?? -1);
    }
    t.ok(clear >= 6, `${clear} steps are clear`);
    t.ok(varied.frontier(0) > varied.frontier(deepest), 'the deep stages lag behind at the end');
  });

void t.test('a row does not depend on its neighbours, their depths, or its slot', async (t) => {
  const alone = openSlot(executor, prompt);
  advanceTo(executor, alone, deepest, last);
  const expected = logitsAt(executor, alone, deepest);
  alone.truncate(last);
  const others = PROMPTS.map((tokens, index) => {
    const slot = openSlot(executor, tokens);
    advanceTo(executor, slot, index, tokens.length - 1);
    return { slot, exit: executor.exit(index) };
  });
  const moved = openSlot(executor, prompt);
  table.copyPrefix(alone, moved, last);
  table.drop(alone);
  decodeRows(executor, [...others, { slot: moved, exit: executor.exit(deepest) }]);
  t.equal(distance(executor.head.fullLogits(3), expected), 0);
});

void t.test('a copied prefix gives the logits of the original, shallow and deep', async (t) => {
  const source = openSlot(executor, prompt);
  advanceTo(executor, source, 1, 256);
  advance(executor, source, deepest, 100);
  const expected = openSlot(executor, prompt.slice(0, 201));
  advance(executor, expected, deepest, 100);
  advance(executor, expected, deepest, 200);
  const copy = openSlot(executor, prompt.slice(0, 201));
  table.copyPrefix(source, copy, 200);
  t.equal(copy.frontier(1), 200);
  t.equal(copy.frontier(deepest), 100, 'the deeper stages catch up over the rest');
  advance(executor, copy, deepest, 200);
  t.equal(distance(logitsAt(executor, copy, deepest), logitsAt(executor, expected, deepest)), 0);
});
