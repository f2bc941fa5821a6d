/** Answers under a grammar, by the tiny model, whose tokens are bytes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Grammars } from '../../../src/engine/grammar/grammars.js';
import { GrammarQueue } from '../../../src/engine/worker/grammar-queue.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest, StepMessage } from '../../../src/protocol/index.js';
import { TextTokenizer } from '../../../src/gateway/text/tokenizer.js';
import { answersOf, makeCore, makeExecutor, type Outcome } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const modelDir = await tinyModel(t, 'float');
const executor = await makeExecutor(t, { modelDir, prefillChunk: 64 });
export const { manifest } = executor.model;
const file = join(modelDir, manifest.tokenizer);
export const tokenizer = new TextTokenizer(JSON.parse(readFileSync(file, 'utf8')));
export const options = { tokenizer: file, endTokens: manifest.eosTokens };
/** Shared by tests whose schemas break no thread. On a busy machine it is silent for long. */
export const grammars = new Grammars({ ...options, silenceMs: 300_000 }, () => undefined);
const layers = manifest.exits.map(({ layer }) => layer);
export const shallowest = layers[0] ?? 0;
export const deepest = layers.at(-1) ?? 0;

t.afterEach(() => {
  executor.forget(0);
});

/** A core and its queue of grammars. */
export function queueOf(of = grammars, limits: Partial<EngineOptions> = {}, onChange = (): void => undefined) {
  const core = makeCore(executor, limits);
  return { core, queue: new GrammarQueue(core, of, onChange) };
}

/** Outcomes of requests that arrive together, and their texts. */
export async function outcomes(
  requests: readonly SequenceRequest[],
  { core, queue } = queueOf(),
  onStep?: (step: StepMessage) => void,
): Promise<Map<string, Outcome & { readonly text: string }>> {
  for (const request of requests) queue.generate(request);
  const ids = requests.map(({ id }) => id);
  const all = [...(await answersOf(core, ids, onStep))];
  return new Map(all.map(([id, each]) => [id, { ...each, text: tokenizer.decode(each.tokens) }]));
}
