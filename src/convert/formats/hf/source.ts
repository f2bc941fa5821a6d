/** A Hugging Face folder as a model source: config.json, tokenizer.json, one or several safetensors files. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isValid, Type } from '../../../util/schema.js';
import { familyOfConfig, llama } from '../../architectures/families.js';
import type { Description, Family } from '../../architectures/family.js';
import { Fields } from '../../architectures/fields.js';
import { cooked, folderRecipes } from '../../architectures/recipe.js';
import { checkTensor } from '../../check.js';
import { ConvertError } from '../../conversion-error.js';
import { GENERATION_FIELDS } from '../../settings.js';
import { HEAD } from '../../source.js';
import type { ModelSource, SourceSampling, SourceTokenizer, TensorFile, Tensors } from '../../source.js';
import { balconyExits, isBalcony, isPromptTensor, isSwiftKv, layerSkipExits, swiftKvExit } from './exits.js';
import { inside, type Json, readJson, readOptionalJson, readOptionalText } from './files.js';
import { openSafetensors } from './safetensors.js';
import { readTokenizer } from './tokenizer.js';

/** Classes of models with images; the converter reads their text part, `text_config`. */
const WITH_IMAGES = /^(Gemma3|Gemma4|Mistral3)ForConditionalGeneration$/;

/** A tensor of their other parts. */
const OTHER_PART = /^(?:model\.)?(vision_tower|audio_tower|multi_modal_projector|embed_vision|embed_audio)\./;

/** Tensors that older versions of transformers store although rope_theta determines them. */
const FREQUENCIES = /(^|\.)rotary_emb\.inv_freq$/;

/** The weight_map of model.safetensors.index.json. */
const WeightMap = Type.Record(Type.String(), Type.String());

/** The content of the small files of a folder. */
interface Outline {
  readonly config: Json;
  readonly fields: Fields;
  readonly family: Family;
  readonly description: Description;
  /** Whether the weights have other parts than text. */
  readonly images: boolean;
  readonly tokenizer: SourceTokenizer;
}

/** Reads the files besides weights. @throws ConvertError unless they describe a model that the converter reads */
export function readOutline(folder: string): Outline {
  if (!existsSync(path.join(folder, 'config.json')))
    throw new ConvertError(`${folder} is not a Hugging Face folder (no config.json)`);
  const config = readJson(folder, 'config.json');
  const file = path.join(folder, 'config.json');
  const all = new Fields(
    (key) => config[key],
    (key) => `${file}: ${key}`,
  );
  const images = Array.isArray(config.architectures) && WITH_IMAGES.test(String(config.architectures[0]));
  const fields = images ? all.within('text_config') : all;
  const family = familyOfConfig(images ? null : config.architectures, fields.get('model_type'), file);
  const description = family.fromConfig(fields.over(family.defaults ?? {}));
  return { config, fields, family, description, images, tokenizer: readTokenizer(folder, config) };
}

/** Opens a folder. Throws ConvertError unless it holds a model that the converter reads. */
export function openHuggingFace(folder: string): ModelSource {
  const { config, fields, family, description, images, tokenizer } = readOutline(folder);
  const { architecture } = description;
  const recipes = folderRecipes(family, description);
  const files = openWeights(folder);
  const leftOut = new Set<string>();
  /** The file of each tensor, and its name there. */
  const owner = new Map<string, { readonly file: TensorFile; readonly stored: string }>();
  for (const file of files)
    for (const stored of file.names) {
      const other = images && OTHER_PART.exec(stored);
      if (other) leftOut.add(other[1] ?? '');
      else owner.set(images ? textName(stored) : stored, { file, stored });
    }
  const raw: Tensors = {
    names: [...owner.keys()].filter((name) => !FREQUENCIES.test(name)),
    tensor(name) {
      const found = owner.get(name);
      if (!found) throw new ConvertError(`${folder} has no tensor ${name}`);
      return found.file.tensor(found.stored);
    },
  };
  const balcony = balconyExits(fields, raw, architecture.layers);
  const isSwift = isSwiftKv(config.architectures, fields.get('model_type'));
  const { gate } = family;
  const isTrunk = (name: string): boolean =>
    !(gate !== undefined && name.startsWith(`${gate}.`)) &&
    !(balcony !== null && isBalcony(name)) &&
    !(isSwift && isPromptTensor(name));
  const name = config._name_or_path;
  return {
    architecture: { ...architecture, tiedHead: architecture.tiedHead || !owner.has(HEAD) },
    blocks: recipes,
    prompt: isSwift ? swiftKvExit(fields, raw, architecture) : null,
    gate: gate === undefined ? null : readGate(raw, gate, architecture.hidden),
    loopAccuracy: family.loopAccuracy ?? null,
    ownBlocks: balcony && { ...balcony.blocks, file: folder, close: () => undefined },
    tokenizer,
    // The licence in the front matter of the model card.
    licence: /^license:\s*(\S+)/m.exec(readOptionalText(folder, 'README.md') ?? '')?.[1] ?? 'unknown',
    leftOut: [...leftOut],
    origin: typeof name === 'string' && name !== '' ? name : path.basename(path.resolve(folder)),
    sampling: readSampling(folder),
    exits: balcony?.exits ?? (family === llama ? layerSkipExits(folder, name, architecture.layers) : null),
    ...cooked({ ...raw, names: raw.names.filter(isTrunk) }, recipes, architecture.layers),
    close() {
      for (const file of files) file.close();
    },
  };
}

/** A folder without its gate is not the model that its config names. @throws ConvertError that names the tensor */
function readGate(raw: Tensors, gate: string, hidden: number): Float32Array {
  checkTensor(raw, `${gate}.weight`, [1, hidden]);
  checkTensor(raw, `${gate}.bias`, [1]);
  const parts = [`${gate}.weight`, `${gate}.bias`].map((name) => raw.tensor(name).rows(0, 1));
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

/** The name of a tensor of the text part of a model with images. */
function textName(stored: string): string {
  return stored.replace(/^model\.language_model\./, 'model.').replace(/^language_model\./, '');
}

/** The values of generation_config.json. As in vLLM, they count whatever `do_sample` says. */
function readSampling(folder: string): SourceSampling[] {
  const name = 'generation_config.json';
  const json = readOptionalJson(folder, name);
  return Object.entries(GENERATION_FIELDS).flatMap(([key, field]) => {
    const value = json[key] ?? null;
    return value === null ? [] : [{ field, origin: `${path.join(folder, name)}: ${key}`, value }];
  });
}

function openWeights(folder: string): TensorFile[] {
  const index = path.join(folder, 'model.safetensors.index.json');
  let names = ['model.safetensors'];
  if (existsSync(index)) {
    const map = readJson(folder, 'model.safetensors.index.json').weight_map;
    if (!isValid(WeightMap, map)) throw new ConvertError(`${index} must have a weight_map of file names by tensor`);
    names = [...new Set(Object.values(map))].sort();
  }
  const paths = names.map((name) => inside(folder, name));
  const open: TensorFile[] = [];
  try {
    for (const each of paths) open.push(openSafetensors(each));
  } catch (error) {
    for (const file of open) file.close();
    throw error;
  }
  return open;
}
