/** GET /props: exits with their agreement and accuracy, calibration and limits, with the client's bounds. */
import { depthOf } from '../../../engine/model/architecture.js';
import type { ReadyMessage } from '../../../protocol/index.js';
import { Type } from '../../../util/schema.js';
import { MOST_CHOICES, readyEngine } from '../context.js';
import type { ServedModel } from '../served-model.js';
import { samplingDefaults } from '../params/sampling.js';
import type { PlainEndpoint } from './endpoint.js';
import { exitsFor, loopsOf } from './models.js';

/** Costs to a microsecond: further digits are noise of the measurement. */
function roundedPoint<T extends { readonly ms: number }>(point: T): T {
  return { ...point, ms: Math.round(point.ms * 1000) / 1000 };
}

/** Each exit with what the model folder measured. */
function exitRows(model: ServedModel): object[] {
  return model.exits.map(({ layer, quality, dry }) => ({
    layer,
    ...loopsOf(model, layer),
    kl: quality.kl ?? null,
    agreement: quality.agreement ?? null,
    accuracy: quality.accuracy ?? null,
    dry: dry ? { dry_multiplier: dry.multiplier, dry_base: dry.base, dry_allowed_length: dry.allowedLength } : null,
  }));
}

function deviceCard({ index, name, driver, memoryBytes, freeBytes, units }: ReadyMessage['devices'][number]) {
  return { index, name, driver, memory_bytes: memoryBytes, free_bytes: freeBytes, units };
}

export const props: PlainEndpoint = {
  path: '/props',
  operationId: 'getProps',
  summary: 'Exits with their agreement and accuracy, calibration, limits',
  tag: 'Sortie',
  answer: Type.Object({}, { additionalProperties: true }),
  meaning: 'Properties of this server.',
  serve(context, { caller }) {
    const ready = readyEngine(context);
    const { model, limits } = context;
    const allowed = exitsFor(context, caller);
    const defaults = samplingDefaults(model.generation);
    const [shallowest = 0] = allowed;
    const deepest = allowed.at(-1) ?? 0;
    return {
      model: model.name,
      aliases: model.aliases ?? [],
      licence: model.licence,
      architecture: ready.architecture,
      // Layers in front of these write keys and values; those behind read them. A token of a prompt may run fewer.
      kv_layers: ready.architecture.sharing?.first ?? depthOf(ready.architecture),
      prompt_layers: ready.promptLayers ?? depthOf(ready.architecture),
      exits: exitRows(model),
      sampling_defaults: {
        temperature: defaults.temperature,
        top_p: defaults.topP,
        top_k: defaults.topK,
        min_p: defaults.minP,
        repetition_penalty: defaults.repetitionPenalty,
      },
      min_exit_layer: shallowest,
      max_exit_layer: deepest,
      device: ready.device,
      cards: ready.devices.map(deviceCard),
      kernels: ready.kernels,
      limits: {
        max_model_len: ready.maxLength,
        max_running: ready.slots,
        kv_tokens: ready.kvTokens,
        max_choices: MOST_CHOICES,
        max_tokens_default: limits.maxTokensDefault ?? defaults.maxTokens,
      },
      calibration: {
        load_ms: Math.round(ready.loadMs),
        calibrate_ms: Math.round(ready.calibrateMs),
        cost: ready.cost.units.map(({ decode, prefill, ...unit }) => ({
          ...unit,
          decode: decode.map(roundedPoint),
          prefill: prefill.map(roundedPoint),
        })),
      },
    };
  },
};
