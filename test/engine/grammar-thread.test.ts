/** The thread of grammars while it is slow, without a model: its first grammar takes it a second and more. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { Grammars } from '../../src/engine/grammar/grammars.js';
import { loadManifest } from '../../src/model/manifest-io.js';
import { holdProcess, MODEL } from './helper.js';

t.setTimeout(240_000);
const manifest = loadManifest(MODEL);
const options = { tokenizer: join(MODEL, manifest.tokenizer), endTokens: manifest.eosTokens };
const grammar = { kind: 'json', schema: '{}' } as const;

void t.test('a thread that is stuck is noticed though others ask for grammars meanwhile', async (t) => {
  holdProcess(t);
  const grammars = new Grammars({ ...options, silenceMs: 100 }, () => undefined);
  const lost: string[] = [];
  const all: Promise<unknown>[] = [];
  // Each of them comes sooner than the silence is over.
  for (let each = 0; each < 7 && lost.length === 0; each++) {
    const opened = grammars.open(`g${each}`, grammar, []).catch((error: unknown) => lost.push(String(error)));
    all.push(opened);
    await delay(40);
  }
  t.ok(all.length < 7, `lost after ${all.length} of 7`);
  await Promise.all(all);
  t.match(lost[0], /takes too long/);
});
