/**
 * Serves with an engine process on `--device cuda` whose card fails in an answer, and again after the restart. Prints the
 * ends of the answers as a line of JSON. Usage: fault.js MODEL CODE; FAKE_CUDA_FAIL_AT names the file of the failure.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { answerOf, greedy } from '../../../bench/greedy-request.js';
import { EngineClient } from '../../../src/gateway/engine-client/client.js';

const [modelDir = '', code = ''] = process.argv.slice(2);
const file = process.env.FAKE_CUDA_FAIL_AT ?? '';
const limits = { threads: 1, kvMemoryBytes: 2 ** 26, maxRunning: 4, maxQueue: 10, prefillChunk: 64 } as const;
const engine = new EngineClient({ modelDir, device: 'cuda', ...limits, kernels: null, prefixReuse: false });
const { exits } = await engine.start();

/** How an answer ends: `ended`, or the reason of its loss. @param failing whether the card fails at its first token */
function answer(id: string, tokens: number, failing: boolean): Promise<string> {
  const request = greedy(id, [1, 2, 3], exits.at(-1) ?? 0, tokens);
  const fail = (): void => {
    if (!failing) return;
    // The card may look for the file at any time.
    writeFileSync(`${file}.new`, code);
    renameSync(`${file}.new`, file);
  };
  return answerOf(engine, request, fail).then(
    () => 'ended',
    (error: unknown) => (error as Error).message,
  );
}

const ends: string[][] = [];
for (let round = 0; round < 2; round++) {
  ends.push(await Promise.all([0, 1, 2].map((i) => answer(`${round}/${i}`, 200, true))));
  rmSync(file);
  while (engine.ready === null) await delay(20);
  ends.push([await answer(`${round}/after`, 5, false)]);
}
await engine.close();
console.log(JSON.stringify(ends));
process.exit(0);
