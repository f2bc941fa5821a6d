/** GET /v1/models and /props. */
import type { ReadyMessage } from '../protocol/index.js';
import { ApiError } from './errors.js';
import { learningKey, policyOf, readyEngine, type ApiContext, type Caller } from './context.js';
import { allowedExits, namesOf, requestedModel, type RequestedModel } from './params/depth.js';
import type { QualityRow } from '../quality/exit-quality.js';
import { samplingDefaults } from './params/sampling.js';
import type { ServedModel } from './served-model.js';

function card(context: ApiContext, { name, exit }: RequestedModel) {
  const { model, engine } = context;
  return {
    id: exit === null ? name : `${name}:${exit}`,
    object: 'model',
    created: model.created,
    owned_by: 'sortie',
    // vLLM's benchmark reads `root`.
    root: model.name,
    parent: null,
    max_model_len: engine.ready?.maxLength ?? model.context,
    exit_layer: exit,
    ...loopsOf(model, exit),
  };
}

/** Loops of an exit of a looped model and the layers that they run; nothing for another model. */
function loopsOf({ loopLayers }: ServedModel, exit: number | null): { loops?: number; layers?: number } {
  return exit === null || loopLayers === undefined ? {} : { loops: exit, layers: exit * loopLayers };
}

function exitsFor({ model, limits }: ApiContext, { policy }: Caller): readonly number[] {
  return allowedExits(model, policyOf(limits.policy, policy));
}

/** For each name, one card for the routed model and one per exit that the client may pin. @throws ApiError loading */
export function listModels(context: ApiContext, caller: Caller): object {
  readyEngine(context);
  const exits = exitsFor(context, caller);
  return {
    object: 'list',
    data: namesOf(context.model).flatMap((name) => [null, ...exits].map((exit) => card(context, { name, exit }))),
  };
}

/** @throws ApiError model_not_found (also for an exit that the client may not use) or loading */
export function getModel(context: ApiContext, asked: string, caller: Caller): object {
  readyEngine(context);
  const requested = requestedModel(context.model, asked);
  const { exit } = requested;
  if (exit !== null && !exitsFor(context, caller).includes(exit)) {
    throw new ApiError('model_not_found', `This client may not use exit ${exit}.`, 'model');
  }
  return card(context, requested);
}

/** Costs to a microsecond: further digits are noise of the measurement. */
function roundedPoint<T extends { readonly ms: number }>(point: T): T {
  return { ...point, ms: Math.round(point.ms * 1000) / 1000 };
}

/** The estimate by which the router weighs an exit, and `min_quality` chooses one, with its sources. */
function qualityOf(row: QualityRow | undefined): object | null {
  if (row === undefined) return null;
  const rounded = (value: number): number => Math.round(value * 1e4) / 1e4;
  const { prior, answers, audited, estimate } = row;
  return {
    estimate: rounded(estimate),
    prior: rounded(prior),
    audited: audited === null ? null : rounded(audited),
    audited_answers: rounded(answers),
  };
}

/** Each exit with its quality. @param hasDry whether requests that state no DRY get the model's */
function exitRows({ model, quality: known, gates }: ApiContext, caller: Caller, hasDry: boolean): object[] {
  const rows = known.rows(learningKey(caller));
  return model.exits.map(({ layer, quality, dry }, index) => ({
    layer,
    ...loopsOf(model, layer),
    ...(model.loopLayers !== undefined && { gate: gates?.of(index) ?? null }),
    kl: quality.kl ?? null,
    agreement: quality.agreement ?? null,
    quality: qualityOf(rows.find((row) => row.layer === layer)),
    dry:
      dry && hasDry
        ? { dry_multiplier: dry.multiplier, dry_base: dry.base, dry_allowed_length: dry.allowedLength }
        : null,
  }));
}

function deviceCard({ index, name, driver, memoryBytes, freeBytes, units }: ReadyMessage['devices'][number]) {
  return { index, name, driver, memory_bytes: memoryBytes, free_bytes: freeBytes, units };
}

/** Exits, calibration and limits, with the client's bounds. @throws ApiError loading */
export function props(context: ApiContext, caller: Caller): object {
  const ready = readyEngine(context);
  const { model, limits } = context;
  const allowed = exitsFor(context, caller);
  const defaults = samplingDefaults(model.generation, limits.samplingDefaults);
  const [shallowest = 0] = allowed;
  const deepest = allowed.at(-1) ?? 0;
  return {
    model: model.name,
    aliases: model.aliases ?? [],
    licence: model.licence,
    architecture: ready.architecture,
    exits: exitRows(context, caller, defaults.dry),
    sampling_defaults: {
      source: limits.samplingDefaults,
      temperature: defaults.temperature,
      top_p: defaults.topP,
      top_k: defaults.topK,
      min_p: defaults.minP,
      repetition_penalty: defaults.repetitionPenalty,
    },
    default_exit: Math.min(Math.max(limits.defaultExit ?? deepest, shallowest), deepest),
    min_exit_layer: shallowest,
    max_exit_layer: deepest,
    device: ready.device,
    cards: ready.devices.map(deviceCard),
    kernels: ready.kernels,
    limits: {
      max_model_len: ready.maxLength,
      max_running: ready.slots,
      kv_tokens: ready.kvTokens,
      max_choices: limits.maxChoices,
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
}
