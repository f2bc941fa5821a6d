/**
 * Entry of the engine process: loads the model, then runs steps while there is work.
 *
 * Must not know: HTTP, text.
 * Calls into ONNX Runtime are synchronous, so the process reads messages between steps only. The process exits when its
 * parent does.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs, timerUntil } from '../../util/clock.js';
import { chunkSizes, defaultPolicy } from '../scheduler/policy.js';
import { EngineCore } from './core.js';
import { Executor } from '../execution/executor.js';
import { type GrammarOptions, Grammars } from '../grammar/grammars.js';
import { GrammarQueue } from './grammar-queue.js';
import { loadModel } from '../execution/load-model.js';
import type { FatalMessage, FromEngine, ReadyMessage, StepMessage, ToEngine } from '../../protocol/index.js';
import { deviceFault, memoryFault } from './device-fault.js';
import { readTokenTexts } from '../landing/token-texts.js';
import type { EngineOptions } from '../../protocol/engine-options.js';
import { sequencesOf } from '../../protocol/request.js';
import { collectGarbage } from '../../util/memory.js';
import { useHugePages, trimHeap } from '../runtime/libc.js';
import { calibrateAtStartup } from '../calibration/startup.js';

/** Longest wait of a step for grammar masks. */
const MASK_WAIT_MS = 2;

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '') as EngineOptions;
  const { core, ready, grammars } = await start(options).catch((error: unknown) => {
    const message =
      memoryFault(error, options.device, 'load') ?? (error instanceof Error ? error.message : String(error));
    throw new OperatorError('model', message, { cause: error });
  });

  let wake: () => void = () => undefined;
  const woken = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  const changed = (): void => {
    wake();
  };
  const grammarQueue = new GrammarQueue(core, new Grammars(grammars, changed), changed);
  process.on('message', (message: ToEngine) => {
    if (message.type === 'generate') for (const each of sequencesOf(message.request)) grammarQueue.generate(each);
    else if (message.type === 'cancel') {
      for (const id of message.ids) grammarQueue.cancel(id, message.reason);
    } else if (message.type === 'wake') core.wake(message.ids);
    else if (message.type === 'ping') send({ type: 'pong' });
    else process.exit(0);
    wake();
  });
  send(ready);

  for (;;) {
    const { wakesAt } = core;
    if ((!core.busy || core.isStalled) && monotonicMs() < wakesAt) {
      core.rest();
      const timer = wakesAt < Infinity ? setTimeout(changed, timerUntil(wakesAt)) : undefined;
      await woken();
      clearTimeout(timer);
      continue;
    }
    const { load, ...step } = stepOf(core, options.device);
    send({ ...step, load: { ...load, waiting: load.waiting + grammarQueue.waiting } });
    await new Promise(setImmediate);
    // A mask takes a fraction of a step. Without the wait, its sequence would miss a whole step.
    const until = monotonicMs() + MASK_WAIT_MS;
    while (core.awaitsMasks && monotonicMs() < until) await Promise.race([woken(), delay(MASK_WAIT_MS)]);
  }
}

function stepOf(core: EngineCore, device: string): StepMessage {
  try {
    return core.step();
  } catch (error) {
    const fault = memoryFault(error, device, 'step') ?? deviceFault(error);
    throw fault === null ? error : new OperatorError('device', fault, { cause: error });
  }
}

interface Started {
  readonly core: EngineCore;
  readonly ready: ReadyMessage;
  readonly grammars: GrammarOptions;
}

async function start(options: EngineOptions): Promise<Started> {
  const startedAt = monotonicMs();
  const executor = new Executor(
    await loadModel(options, (done, total) => {
      send({ type: 'loading', done, total });
    }),
  );
  const loadedAt = monotonicMs();
  const { manifest, limits, device, bytesPerPosition } = executor.model;
  const { costs, slowdown, ...calibration } = calibrateAtStartup(executor, options, monotonicMs);
  executor.useCosts(costs);
  await releaseLoadMemory();
  const tokenizer = join(options.modelDir, manifest.tokenizer);
  const core = new EngineCore(executor, costs, {
    ...options,
    slowdown,
    kvBytes: options.kvMemoryBytes,
    speculate: options.speculate ?? 'off',
    texts: readTokenTexts(tokenizer),
    policy: { ...defaultPolicy, chunks: chunkSizes(options.prefillChunk) },
    clock: monotonicMs,
  });
  // Without those of a partial page.
  const positions = Math.floor(options.kvMemoryBytes / bytesPerPosition);
  const prompt = options.promptExit === false ? undefined : manifest.exits.at(-1)?.block?.prompt;
  return {
    core,
    grammars: { tokenizer, endTokens: manifest.eosTokens },
    ready: {
      type: 'ready',
      name: manifest.name,
      architecture: manifest.architecture,
      ...(prompt && { promptLayers: prompt.exit }),
      exits: manifest.exits.map(({ layer }) => layer),
      maxLength: limits.capacity,
      slots: options.maxRunning,
      kvTokens: positions - (positions % executor.table.granularity),
      kernels: executor.kernels,
      kernelFaults: executor.model.kernelFaults,
      device: device.kind,
      devices: executor.model.devices(),
      cost: costs,
      loadMs: loadedAt - startedAt,
      calibrateMs: monotonicMs() - loadedAt,
      calibration,
    },
  };
}

/** Loading leaves inflated weight files and ONNX Runtime's unpacked copies in memory: twice the model. */
async function releaseLoadMemory(): Promise<void> {
  await collectGarbage();
  trimHeap();
  // The remaining memory is mostly weights.
  useHugePages();
}

/**
 * An error that is one line for the operator; others keep their stack.
 * - `model`: a failed start because of the model folder, the device or the options. A restart would fail as well.
 * - `device`: a fault in a step; the engine starts again.
 */
class OperatorError extends Error {
  constructor(
    readonly kind: 'model' | 'device',
    message: string,
    options: ErrorOptions,
  ) {
    super(message, options);
  }
}

function send(message: FromEngine): void {
  // A failed send means that the gateway is gone; `disconnect` ends this process.
  process.send?.(message, () => undefined);
}

process.on('disconnect', () => process.exit(0));
// Ctrl-C signals the whole process group; the gateway decides when the engine exits.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

main().catch((error: unknown) => {
  const isKnown = error instanceof OperatorError;
  const kind = isKnown ? error.kind : 'internal';
  const text = error instanceof Error ? ((isKnown ? null : error.stack) ?? error.message) : String(error);
  const message: FatalMessage = { type: 'fatal', kind, message: text };
  process.send?.(message, () => process.exit(1));
});
