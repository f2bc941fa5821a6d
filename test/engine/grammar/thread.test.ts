/** A slow grammar thread, without a model: its first grammar takes a second or more. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import type { Constraint } from '../../../src/engine/constraint.js';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import { Grammars } from '../../../src/engine/grammar/grammars.js';
import { grammarVocabulary } from '../../../src/engine/grammar/guidance.js';
import { GrammarQueue } from '../../../src/engine/worker/grammar-queue.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { loadManifest } from '../../../src/engine/model/manifest-io.js';
import { greedy, holdProcess, MODEL } from '../helper.js';

const manifest = loadManifest(MODEL);
const options = { tokenizer: join(MODEL, manifest.tokenizer), endTokens: manifest.eosTokens };
const grammar = { kind: 'json', schema: '{}' } as const;

void t.test('a stuck thread is noticed although further grammars are requested meanwhile', async (t) => {
  holdProcess(t);
  // By time alone: beside other work the thread may lack a core, which excuses it for longer.
  const grammars = new Grammars({ ...options, silenceMs: 100, threadMs: () => null }, () => undefined);
  const lost: string[] = [];
  const all: Promise<unknown>[] = [];
  // Each request comes before the time limit is over.
  for (let each = 0; each < 7 && lost.length === 0; each++) {
    const opened = grammars.open(`g${each}`, grammar, []).catch((error: unknown) => lost.push(String(error)));
    all.push(opened);
    await delay(40);
  }
  t.ok(all.length < 7, `lost after ${all.length} of 7`);
  await Promise.all(all);
  t.match(lost[0], /not answer in time/);
});

void t.test('a request without a grammar counts the waiting ones, and these keep their places', async (t) => {
  holdProcess(t);
  const submitted = new Map<string, number | null | undefined>();
  let done: () => void = () => undefined;
  const all = new Promise<void>((resolve) => (done = resolve));
  const core = {
    isFull: () => false,
    submit: ({ id }: SequenceRequest, constraint: Constraint | null, elsewhere?: number | null) => {
      submitted.set(id, elsewhere);
      constraint?.close();
      if (submitted.size === 4) done();
    },
  } as unknown as EngineCore;
  let changes = 0;
  const grammarQueue = new GrammarQueue(core, new Grammars(options, () => undefined), () => changes++);
  grammarQueue.generate(greedy('a', [1], 1, 1, { grammar }));
  grammarQueue.generate(greedy('b', [1], 1, 1, { grammar }));
  grammarQueue.generate(greedy('plain', [1], 1, 1));
  grammarQueue.generate(greedy('scored', [1], 1, 0, { grammar }));
  t.strictSame(
    [submitted.get('plain'), submitted.get('scored')],
    [2, 2],
    'a request without an answer needs no grammar',
  );
  await all;
  t.strictSame([submitted.get('a'), submitted.get('b')], [null, null]);
  t.equal(changes, 2, 'the step loop wakes up for each');
});

void t.test('if the system cannot create a thread, grammars are lost and free their places', async (t) => {
  // Stands for that case: Node.js throws synchronously here as well.
  const tokenizer = (() => 0) as unknown as string;
  const grammars = new Grammars({ ...options, tokenizer }, () => undefined);
  const lost = { name: 'GrammarsLost', message: /lost: .*could not be cloned/ };
  const all = Array.from({ length: 20 }, (_, index) => grammars.open(`g${index}`, grammar, []));
  const left = grammars.open('left', grammar, []);
  grammars.abandon('left');
  await Promise.all([
    t.rejects(left, { name: 'GrammarAbandoned' }, 'an abandoned request needs no place'),
    ...all.map((each) => t.rejects(each, lost)),
  ]);
});

void t.test('a token may be spelt like an inherited property', (t) => {
  const bytes = ['__proto__', 'constructor', 'a'].map((text) => Buffer.from(text));
  const { vocab } = grammarVocabulary({ bytes, special: new Set(), byteLevel: true, stripsLeadingSpace: false }, 2);
  t.strictSame(Object.entries(vocab), [
    ['__proto__', 0],
    ['constructor', 1],
    ['a', 2],
  ]);
  t.end();
});
