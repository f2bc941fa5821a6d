/** vLLM's router before two replicas of the embedded model. */
import t from 'tap';
import { modelDir, modelName } from '../conformance/helper.js';
import { missing, startReplicas } from '../deploy/pool.js';
import { type Fleet, testClients, testRejection } from './clients.js';
import { startVllmRouter } from './routers.js';

t.setTimeout(240_000);
void t.test('vllm-router', { skip: missing('vllm-router') }, async (t) => {
  const replicas = await startReplicas(t, modelDir, ['--prefix-reuse', 'all']);
  const fleetAt = (url: string, attempts: readonly number[]): Fleet => ({
    ...{ baseURL: `${url}/v1`, model: modelName, replicas, headerOf: (name) => name },
    rejection: { status: 503, code: 'budget_infeasible', attempts },
  });
  await testClients(t, fleetAt(await startVllmRouter(t, replicas), [0, 2]));
  const byTurns = await startVllmRouter(t, replicas, ['--policy', 'round_robin']);
  await t.test('without affinity, a rejected budget is tried at both replicas', (t) =>
    testRejection(t, fleetAt(byTurns, [1, 1])),
  );
});
