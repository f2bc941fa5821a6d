/** vLLM's router and LiteLLM before two replicas, with the files of deploy/ and free ports. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePorts } from '../../bench/ports.js';
import { start } from '../deploy/helper.js';
import { until } from '../support/until.js';
import { type Replica, withPorts } from '../deploy/pool.js';

/** The key that LiteLLM asks of clients. */
export const LITELLM_KEY = 'sk-fleet';

const portOf = ({ url }: Replica): number => Number(new URL(url).port);

/** @param options more of its flags. @returns the address for clients */
export async function startVllmRouter(
  t: Test,
  [a, b]: readonly [Replica, Replica],
  options: readonly string[] = [],
): Promise<string> {
  const [front = 0, metrics = 0] = await freePorts(2);
  const text = withPorts('vllm-router/run.sh', { 8080: front, 8081: portOf(a), 8082: portOf(b), 8404: metrics });
  start(t, 'sh', ['-c', text, 'run.sh', '--log-level', 'error', ...options]).stdout?.resume();
  return untilServing(`http://127.0.0.1:${front}`, '/v1/models');
}

/** @returns the address for clients */
export async function startLitellm(t: Test, [a, b]: readonly [Replica, Replica]): Promise<string> {
  const [front = 0] = await freePorts(1);
  const dir = join(t.testdirName, 'litellm');
  mkdirSync(dir, { recursive: true });
  const file = join(dir, 'config.yaml');
  // Line comments name the port of clients as well, which is an argument.
  writeFileSync(file, withPorts('litellm/config.yaml', { 8081: portOf(a), 8082: portOf(b) }));
  const options = ['--config', file, '--host', '127.0.0.1', '--port', String(front)];
  // LiteLLM would fetch its table of prices otherwise.
  const env = {
    LITELLM_MASTER_KEY: LITELLM_KEY,
    LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    LITELLM_LOG: 'ERROR',
    JSON_LOGS: 'true',
  };
  const proxy = start(t, 'litellm', options, env);
  proxy.stdout?.resume();
  return untilServing(`http://127.0.0.1:${front}`, '/health/liveliness');
}

async function untilServing(url: string, path: string): Promise<string> {
  const serves = async (): Promise<boolean> => (await fetch(url + path)).ok;
  // LiteLLM takes several seconds of a core to start.
  await until(`${url}${path}`, serves, 200).catch(() => until(`${url}${path}`, serves, 200));
  return url;
}
