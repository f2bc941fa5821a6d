/** Log lines for the operator: the engine's starts, and options that are likely mistakes. */
import { type ServeOptions, unknownVariables } from './config.js';
import type { Engine } from './engine/client/engine.js';
import { exposure } from './http/keys.js';
import { samplingWarning } from './model/common-sampling.js';
import type { Manifest } from './model/manifest.js';
import type { Logger } from './telemetry/log.js';

/** Logs the life of the engine process for the operator. */
export function logEngine(engine: Engine, log: Logger): void {
  // A restarted engine loads the same folder, so the same fault is logged once.
  let loggedFault: string | null = null;
  const loggedKernels = new Set<string>();
  engine.on('ready', ({ calibration, lengthPriorFault = null, kernelFaults = [], ...ready }) => {
    const { device, devices, kernels, exits, maxLength, slots } = ready;
    const [loadMs, calibrateMs] = [Math.round(ready.loadMs), Math.round(ready.calibrateMs)];
    const costs = calibration?.source;
    const shown = { device, ...(devices.length > 0 && { cards: devices }), kernels, exits, maxLength, slots };
    log.info({ ...shown, loadMs, calibrateMs, costs }, 'engine ready');
    if (calibration?.note != null)
      log.warn({ reason: calibration.note }, 'the cache of measured step costs is unusable');
    for (const reason of kernelFaults) {
      if (!loggedKernels.has(reason)) log.warn({ reason }, 'a kernel failed to load, the others serve');
      loggedKernels.add(reason);
    }
    if (lengthPriorFault !== null && lengthPriorFault !== loggedFault) {
      log.warn({ reason: lengthPriorFault }, 'the model folder has no usable output-length prior');
    }
    loggedFault = lengthPriorFault;
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

/** Warns of a model whose sampling is guessed. */
export function warnOfSampling(
  manifest: Pick<Manifest, 'generation'>,
  source: ServeOptions['samplingDefaults'],
  log: Logger,
): void {
  const warning = source === 'model' ? samplingWarning(manifest) : null;
  if (warning !== null) log.warn(warning);
}
