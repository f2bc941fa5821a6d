/** Text for the operator: the engine's starts, options that are likely mistakes, and the welcome on a terminal. */
import { unknownVariables } from '../../cli/options/config.js';
import type { Engine } from '../engine-client/engine.js';
import { exposure } from '../http/keys.js';
import { samplingWarning } from '../../engine/model/common-sampling.js';
import type { Manifest } from '../../engine/model/manifest.js';
import type { Logger } from '../telemetry/log.js';

/** Logs the life of the engine process for the operator. */
export function logEngine(engine: Engine, log: Logger): void {
  // A restarted engine loads the same folder, so the same fault is logged once.
  const loggedKernels = new Set<string>();
  engine.on('ready', ({ calibration, kernelFaults = [], ...ready }) => {
    const { device, devices, kernels, exits, maxLength, slots } = ready;
    const loadMs = Math.round(ready.loadMs);
    const calibrateMs = Math.round(ready.calibrateMs);
    const costs = calibration?.source;
    const shown = { device, ...(devices.length > 0 && { cards: devices }), kernels, exits, maxLength, slots };
    log.info({ ...shown, loadMs, calibrateMs, costs }, 'engine ready');
    if (calibration?.note != null)
      log.warn({ reason: calibration.note }, 'the cache of measured step costs is unusable');
    for (const reason of kernelFaults) {
      if (!loggedKernels.has(reason)) log.warn({ reason }, 'a kernel failed to load, the others serve');
      loggedKernels.add(reason);
    }
  });
  engine.on('down', (message) => {
    log.error({ reason: message }, 'engine down, restarting it');
  });
}

/** A chat of one question fits into this many positions. */
const LEAST_USEFUL_POSITIONS = 256;

/** Warns of a KV budget that holds next to no text. */
export function warnOfShortContext(engine: Engine, log: Logger, kvMemoryBytes: number): void {
  engine.on('ready', ({ maxLength, architecture }) => {
    const least = Math.min(LEAST_USEFUL_POSITIONS, architecture.context);
    if (maxLength >= least) return;
    const neededMb = Math.ceil((kvMemoryBytes / maxLength) * least * 1e-6);
    log.warn(
      { maxLength, neededMb },
      `--kv-memory holds only ${maxLength} tokens of prompt and answer; ${least} need ${neededMb} MB`,
    );
  });
}

/** Warns of a key file that other users of the machine can read or change. */
export function warnOfKeyFile(apiKeyFile: string | null, log: Logger): void {
  const mode = apiKeyFile === null ? null : exposure(apiKeyFile);
  if (mode !== null)
    log.warn({ mode }, `--api-key-file has mode ${mode}: other users can read or change it; chmod 600`);
}

/** Warns of misspelt variables. */
export function warnOfVariables(env: Readonly<Record<string, string | undefined>>, log: Logger): void {
  for (const { variable, suggestion } of unknownVariables(env)) {
    const hint = suggestion === null ? 'see serve --help' : `did you mean ${suggestion}?`;
    log.warn({ variable }, `${variable} is not a variable of an option; ${hint}`);
  }
}

/** Warns of a model without measured lengths of answers. */
export function warnOfLengths({ exits }: Pick<Manifest, 'exits'>, log: Logger): void {
  const without = exits.filter(({ lengths }) => lengths === undefined).map(({ layer }) => layer);
  if (without.length > 0)
    log.warn({ exits: without }, 'the model folder has no lengths of answers, so the scheduler guesses');
}

/** Warns of a model whose sampling is guessed. */
export function warnOfSampling(manifest: Pick<Manifest, 'generation'>, log: Logger): void {
  const warning = samplingWarning(manifest);
  if (warning !== null) log.warn(warning);
}

interface WelcomeFacts {
  readonly url: string;
  readonly model: string;
  readonly needsKey: boolean;
}

/** The text that a terminal shows once the server is ready: addresses, and a first request to paste. */
export function welcome({ url, model, needsKey }: WelcomeFacts): string {
  const body = {
    model,
    max_tokens: 60,
    messages: [{ role: 'user', content: 'Why is the sky blue?' }],
  };
  const headers = ['Content-Type: application/json', ...(needsKey ? ['Authorization: Bearer YOUR_KEY'] : [])];
  return `
  Sortie is ready at ${url}

  curl ${url}/v1/chat/completions ${headers.map((header) => `-H '${header}'`).join(' ')} \\
    -d '${JSON.stringify(body)}'

  Budget      add -H 'X-Latency-Budget-Ms: 2000'
  Playground  ${url}/
  API         ${url}/docs
  Ctrl+C stops the server.

`;
}
