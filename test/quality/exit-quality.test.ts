import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { ExitQuality } from '../../src/gateway/quality/exit-quality.js';
import { qualityStore } from '../../src/gateway/quality/quality-store.js';

const PRIORS = [0.6, 0.8, 0.9];
const LAYERS = [10, 20, 30];

const make = (): ExitQuality => new ExitQuality(LAYERS.map((layer, i) => ({ layer, agreement: PRIORS[i] })));
const group = (key: string | null, kind = 'chat') => ({ key, kind });

function observe(quality: ExitQuality, key: string | null, agreement: number, answers: number, kind = 'chat'): void {
  for (let i = 0; i < answers; i++) quality.observe(group(key, kind), 10, Math.round(100 * agreement), 100);
}

void t.test('evidence moves an estimate from its prior, and full depth bounds it', async (t) => {
  const quality = make();
  t.same(quality.of(group(null)), PRIORS);
  observe(quality, null, 0.2, 1);
  const [first = 1, ...others] = quality.of(group(null));
  t.ok(first < 0.6 && first > 0.55);
  t.same(others, [0.8, 0.9], 'of its exit alone');
  observe(quality, null, 1, 3000);
  t.ok((quality.of(group(null))[0] ?? 1) <= 0.9 && (quality.of(group(null))[0] ?? 0) > 0.88);
  observe(quality, null, 0, 3000);
  t.ok((quality.of(group(null))[0] ?? 1) < 0.07, 'old evidence fades');
  quality.observe(group(null), 30, 0, 100);
  t.equal(quality.of(group(null))[2], 0.9, 'full depth is the measure');
  quality.observe(group(null), 11, 1, 1);
  quality.observe(group(null), 10, 0, 0);
  t.same(new ExitQuality([{ layer: 5 }, { layer: 10 }]).priors, [0.5, 1], 'without a measurement');
});

void t.test('short answers count for less', async (t) => {
  const [short, long] = [make(), make()];
  short.observe(group(null), 10, 0, 2);
  long.observe(group(null), 10, 0, 64);
  t.ok((short.of(group(null))[0] ?? 0) > (long.of(group(null))[0] ?? 1));
});

void t.test('a kind of requests has its own estimate where there is enough evidence', async (t) => {
  const quality = make();
  observe(quality, 'a', 0.9, 200, 'completion');
  observe(quality, 'a', 0.3, 200, 'chat');
  const of = (kind: string): number => quality.of(group('a', kind))[0] ?? 0;
  t.ok(of('completion') > 0.7 && of('chat') < 0.4, `${of('completion')} ${of('chat')}`);
  t.ok(of('schema') > of('chat') && of('schema') < of('completion'), 'a kind without evidence has that of its key');
});

void t.test('one key moves the estimates of others by at most .1, with any evidence', (t) => {
  const entry = fc.record({
    key: fc.constantFrom('other', 'bad'),
    kind: fc.constantFrom('chat', 'completion'),
    layer: fc.constantFrom(...LAYERS),
    tokens: fc.integer({ min: 1, max: 300 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 60 }), fc.integer({ min: 0, max: 400 }), (entries, burst) => {
      const [without, all] = [make(), make()];
      for (const { key, kind, layer, tokens, share } of entries) {
        for (const quality of key === 'bad' ? [all] : [without, all]) {
          quality.observe({ key, kind }, layer, Math.round(share * tokens), tokens);
        }
      }
      observe(all, 'bad', 0, burst);
      return ['good', 'other', null].every((key) => {
        const [before, after] = [without.of(group(key)), all.of(group(key))];
        return before.every((value, i) => Math.abs(value - (after[i] ?? NaN)) <= 0.1);
      });
    }),
    { numRuns: 200 },
  );
  t.pass();
  t.end();
});

void t.test('estimates by a gate are the prior of exits without a measurement', (t) => {
  const unmeasured = LAYERS.map((layer) => ({ layer }));
  const gated = new ExitQuality(unmeasured);
  const [measured, quality] = [
    new ExitQuality([{ layer: 10, agreement: 0.6 }, { layer: 20 }, { layer: 30 }], gated),
    new ExitQuality(unmeasured, gated),
  ];
  for (let i = 0; i < 400; i++) for (const layer of LAYERS) gated.observe(group('a'), layer, 28, 32);
  const [first = 0, second = 0, deepest] = quality.of(group('a'));
  t.ok(first > 0.8 && first < 0.875, `${first}`);
  t.ok(second > 0.85 && second < 0.875, `${second}`);
  t.equal(deepest, 1, 'full depth is the measure');
  t.same(measured.of(group('a')), [0.6, second, 1]);
  t.equal(quality.rows('a')[0]?.prior, first);
  t.ok((quality.of(group('b'))[0] ?? 1) <= 1 / 3 + 0.1, 'the gate at the answers of one key moves other keys little');
  observe(quality, 'a', 0.2, 400);
  t.ok((quality.of(group('a'))[0] ?? 1) < 0.3, 'audits outweigh the gate');
  t.end();
});

void t.test('the cache folder keeps the evidence', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sortie-quality-'));
  t.teardown(() => {
    rmSync(dir, { recursive: true });
  });
  const cache = join(dir, 'cache');
  const reasons: string[] = [];
  const store = (quality: ExitQuality, model = 'abcdef', folder = cache) =>
    qualityStore(folder, model, quality, (reason) => reasons.push(reason));
  const restore = (quality: ExitQuality, model?: string): void => {
    quality.restore(store(quality, model).read()?.cells ?? []);
  };
  const before = make();
  const first = store(before);
  t.equal(first.read(), null);
  first.close();
  observe(before, 'a', 0.4, 20);
  first.changed();
  first.close();
  const after = make();
  restore(after);
  t.same(after.of(group('a')), before.of(group('a')));
  t.same(after.rows('b'), before.rows('b'));
  const other = make();
  restore(other, 'fedcba');
  t.same(other.of(group('a')), PRIORS, 'of the same model alone');
  t.same(reasons, []);

  const file = join(cache, 'quality-abcdef.json');
  const text = readFileSync(file, 'utf8');
  for (const broken of ['', '{', '[]', text.replace('"version":1', '"version":2'), text.replace('abcdef', 'abcdeg')]) {
    writeFileSync(file, broken);
    const quality = make();
    restore(quality);
    t.same(quality.of(group('a')), PRIORS);
    t.match(reasons.pop(), /does not hold the evidence/);
  }
  const fewer = new ExitQuality([{ layer: 1 }, { layer: 2 }]);
  writeFileSync(file, text);
  restore(fewer);
  t.same(fewer.of(group('a')), [0.5, 1], 'another number of exits');
  const rejected = store(make(), 'abcdef', '/proc/none/cache');
  rejected.changed();
  rejected.close();
  t.match(reasons.pop(), /can't be written/);
});

void t.test('the least used groups are forgotten', async (t) => {
  const quality = make();
  for (let i = 0; i < 1100; i++) observe(quality, `key${i}`, 0.5, 1);
  t.equal(quality.cells().length, 1024);
  t.equal(quality.cells()[0]?.key, 'key76');
});
