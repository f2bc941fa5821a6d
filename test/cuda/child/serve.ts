/**
 * Serves steps with the real engine on `--device cuda`, and marks each step in the trace. Prints a line of JSON.
 * Usage: serve.js MODEL STEPS ROWS [TOKENS PROMPT [KERNEL [KV_MIB]]]: tokens of each answer and of the longest prompt.
 * KERNEL `all` is the default of the engine.
 */
import { greedy } from '../../../bench/greedy-request.js';
import type { StageKernel } from '../../../src/engine/model/manifest.js';
import { cudaEngine, mark } from './engine.js';

const [model = '', steps = '100', rows = '4', length = '16', longest = '110', kernel = 'fp16', kv = '64'] =
  process.argv.slice(2);
const answer = Number(length);
const maxRunning = Number(rows);
const { executor, coreOf } = await cudaEngine({
  modelDir: model,
  kernels: kernel === 'all' ? null : [kernel as StageKernel],
  maxRunning,
  kvMemoryBytes: Number(kv) * 2 ** 20,
  prefixReuse: true,
});
const core = coreOf();
const exits = executor.model.exits.map(({ entry }) => entry.layer);
let sent = 0;
let tokens = 0;
mark('serve');
for (let step = 0; step < Number(steps); step++) {
  // Prompts of many lengths share a prefix, and leave at every exit: chunks, decoding, copies and moves of slots mix.
  while (sent - tokens / answer < maxRunning) {
    const prompt = Array.from({ length: Math.max(1, Number(longest) - 90 + ((sent * 7) % 90)) }, (_, i) =>
      i < 12 ? i + 3 : (sent * 31 + i) % 200,
    );
    core.submit(greedy(`r${sent}`, prompt, exits[(sent * 5) % exits.length] ?? 0, answer));
    sent++;
  }
  mark(`step ${step}`);
  const { tokens: drawn } = core.step();
  tokens += drawn.length;
  mark(`end ${JSON.stringify({ rows: drawn.length })}`);
}
const [placed] = executor.model.devices();
console.log(JSON.stringify({ sent, tokens, plan: placed?.plan, capacity: executor.model.limits.capacity }));
executor.dispose();
