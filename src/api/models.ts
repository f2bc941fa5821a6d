/** GET /v1/models and /props: what is served. */
import { readyEngine, type ApiContext } from './context.js';
import { modelExit } from './depth.js';

function card(context: ApiContext, exit: number | null) {
  const { model, engine } = context;
  return {
    id: exit === null ? model.name : `${model.name}:${exit}`,
    object: 'model',
    created: model.created,
    owned_by: 'sortie',
    // vLLM's bench reads `root`.
    root: model.name,
    parent: null,
    max_model_len: engine.ready?.maxLength ?? model.context,
    exit_layer: exit,
  };
}

/** One card for the routed model and one per pinned exit. @throws ApiError loading */
export function listModels(context: ApiContext): object {
  readyEngine(context);
  return {
    object: 'list',
    data: [card(context, null), ...context.model.exits.map(({ layer }) => card(context, layer))],
  };
}

/** @throws ApiError model_not_found or loading */
export function getModel(context: ApiContext, name: string): object {
  readyEngine(context);
  return card(context, modelExit(context.model, name));
}

/** Exits, calibration and limits. @throws ApiError loading */
export function props(context: ApiContext): object {
  const ready = readyEngine(context);
  const { model, limits } = context;
  return {
    model: model.name,
    licence: model.licence,
    architecture: ready.architecture,
    exits: model.exits.map(({ layer, quality, dry }) => ({
      layer,
      kl: quality.kl ?? null,
      agreement: quality.agreement ?? null,
      dry: dry ? { dry_multiplier: dry.multiplier, dry_base: dry.base, dry_allowed_length: dry.allowedLength } : null,
    })),
    default_exit: limits.defaultExit ?? model.exits.at(-1)?.layer ?? null,
    device: ready.device,
    kernels: ready.kernels,
    limits: {
      max_model_len: ready.maxLength,
      max_running: ready.slots,
      kv_tokens: ready.kvTokens,
      max_choices: limits.maxChoices,
      max_tokens_default: limits.maxTokensDefault,
    },
    calibration: { load_ms: ready.loadMs, calibrate_ms: ready.calibrateMs, cost: ready.cost.units },
  };
}
