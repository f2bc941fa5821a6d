/** LiteLLM's proxy as a side of benches, from a virtual environment with the package `litellm[proxy]`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Server, startServer } from './server.js';

/** A model that LiteLLM calls. */
export interface LiteLlmModel {
  /** The name that callers use. */
  readonly name: string;
  /** The base of its API, with /v1, and its name there. */
  readonly base: string;
  readonly model: string;
  /** Of one attempt, and of the silence in its stream; null: LiteLLM's own time-outs. */
  readonly timeoutMs: number | null;
  readonly headers?: Readonly<Record<string, string>>;
  /** The name of the model that answers if this one fails. */
  readonly fallback?: string;
}

/** No list of prices from the network, and no line a request. */
const ENVIRONMENT = ['LITELLM_LOCAL_MODEL_COST_MAP=True', 'LITELLM_LOG=ERROR'];

/** The configuration file. JSON is YAML. */
function configOf(models: readonly LiteLlmModel[]): string {
  const list = models.map(({ name, base, model, timeoutMs, headers }) => ({
    model_name: name,
    litellm_params: {
      model: `openai/${model}`,
      api_base: base,
      api_key: 'none',
      ...(timeoutMs !== null && { timeout: timeoutMs / 1000, stream_timeout: timeoutMs / 1000 }),
      ...(headers !== undefined && { extra_headers: headers }),
    },
  }));
  const fallbacks = models.flatMap(({ name, fallback }) => (fallback === undefined ? [] : [{ [name]: [fallback] }]));
  const general = { dangerously_permit_weak_or_unset_master_key: true };
  const router = { num_retries: 0, fallbacks };
  return JSON.stringify({ model_list: list, router_settings: router, general_settings: general }, null, 2);
}

/**
 * Starts one worker.
 * @param program path of the program `litellm`
 * @param launcher a command in front of it, such as `taskset -c 1`
 */
export async function startLiteLlm(
  program: string,
  models: readonly LiteLlmModel[],
  launcher: readonly string[] = [],
): Promise<Server> {
  const dir = mkdtempSync(join(tmpdir(), 'sortie-litellm-'));
  const clean = (): void => {
    rmSync(dir, { recursive: true, force: true });
  };
  const file = join(dir, 'config.yaml');
  writeFileSync(file, configOf(models));
  const serve = ['--config', file, '--host', '127.0.0.1', '--port', 'PORT', '--num_workers', '1'];
  try {
    const server = await startServer([...launcher, 'env', ...ENVIRONMENT, program, ...serve], '/health/liveliness');
    return { ...server, stop: () => server.stop().finally(clean) };
  } catch (error) {
    clean();
    throw error;
  }
}
