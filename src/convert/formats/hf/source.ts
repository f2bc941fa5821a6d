/** A Hugging Face folder as a model source: config.json, tokenizer.json, one or several safetensors files. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { staysInside } from '../../../util/inside-folder.js';
import { isValid, Type } from '../../../util/schema.js';
import { type Description, type Family, folderRecipes } from '../../architectures/description.js';
import { Fields } from '../../architectures/fields.js';
import { familyOfConfig, hasImages } from '../../architectures/index.js';
import { llama } from '../../architectures/llama.js';
import { cooked } from '../../architectures/recipe.js';
import { checkTensor } from '../../check.js';
import { ConvertError } from '../../conversion-error.js';
import { GENERATION_FIELDS } from '../../generation.js';
import type { ModelSource, SourceSampling, SourceTokenizer } from '../../source.js';
import { HEAD, type Tensors } from '../../tensors.js';
import { balconyExits, isBalcony } from './balcony.js';
import { inside, type Json, readJson, readOptionalJson, readOptionalText } from './files.js';
import { layerSkipExits } from './layerskip.js';
import { openSafetensors, type Safetensors } from './safetensors.js';
import { isPromptTensor, isSwiftKv, swiftKvExit } from './swiftkv.js';
import { readTokenizer } from './tokenizer.js';

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
  const images = hasImages(config.architectures);
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
  /** The file of each tensor, and its name there. */
  const owner = new Map(
    files.flatMap((file) =>
      file.names.flatMap((stored) => {
        const name = images ? textName(stored) : stored;
        return name === null ? [] : [[name, { file, stored }] as const];
      }),
    ),
  );
  const raw: Tensors = {
    names: [...owner.keys()].filter((name) => !FREQUENCIES.test(name)),
    tensor(name) {
      const found = owner.get(name);
      if (!found) throw new ConvertError(`${folder} has no tensor ${name}`);
      return found.file.tensor(found.stored);
    },
  };
  const balcony = balconyExits(fields, raw, architecture.layers);
  const isLlama = family === llama && balcony === null;
  const skipped = isLlama ? layerSkipExits(folder, config._name_or_path, architecture.layers) : null;
  const isSwift = isSwiftKv(config.architectures, fields.get('model_type'));
  const trunk = { ...raw, names: raw.names.filter((name) => isTrunk(name, family, balcony !== null, isSwift)) };
  return {
    architecture: { ...architecture, tiedHead: architecture.tiedHead || !owner.has(HEAD) },
    blocks: recipes,
    prompt: isSwift ? swiftKvExit(fields, raw, architecture) : null,
    gate: family.gate === undefined ? null : readGate(raw, family.gate, architecture.hidden),
    loopAccuracy: family.loopAccuracy ?? null,
    ownBlocks: balcony && { ...balcony.blocks, file: folder },
    tokenizer,
    name: path.basename(path.resolve(folder)),
    licence: licenceOf(folder),
    origin:
      typeof config._name_or_path === 'string' && config._name_or_path !== ''
        ? config._name_or_path
        : path.basename(path.resolve(folder)),
    sampling: readSampling(folder),
    exits: balcony?.exits ?? skipped,
    ...cooked(trunk, recipes, architecture.layers),
    close() {
      for (const file of files) file.close();
    },
  };
}

/** Whether a tensor belongs to the trunk, not to the gate, to exits of Balcony or to a prompt exit. */
function isTrunk(name: string, { gate }: Family, hasBalcony: boolean, isSwift: boolean): boolean {
  if (gate !== undefined && name.startsWith(`${gate}.`)) return false;
  return !(hasBalcony && isBalcony(name)) && !(isSwift && isPromptTensor(name));
}

/** A folder without its gate is not the model that its config names. @throws ConvertError that names the tensor */
function readGate(raw: Tensors, gate: string, hidden: number): Float32Array {
  checkTensor(raw, `${gate}.weight`, [1, hidden]);
  checkTensor(raw, `${gate}.bias`, [1]);
  const parts = [`${gate}.weight`, `${gate}.bias`].map((name) => raw.tensor(name).rows(0, 1));
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

/** The name of a tensor of the text part of a model with images; null for a tensor of the other parts. */
function textName(stored: string): string | null {
  if (/^(model\.)?(vision_tower|multi_modal_projector)\./.test(stored)) return null;
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

function openWeights(folder: string): Safetensors[] {
  const index = path.join(folder, 'model.safetensors.index.json');
  let names = ['model.safetensors'];
  if (existsSync(index)) {
    const map = readJson(folder, 'model.safetensors.index.json').weight_map;
    if (!isValid(WeightMap, map)) throw new ConvertError(`${index} must have a weight_map of file names by tensor`);
    names = [...new Set(Object.values(map))].sort();
    const outside = names.find((name) => !staysInside(name));
    if (outside !== undefined)
      throw new ConvertError(`${index} must name files of its folder, got ${JSON.stringify(outside)}`);
  }
  const open: Safetensors[] = [];
  try {
    for (const name of names) open.push(openSafetensors(inside(folder, name)));
  } catch (error) {
    for (const file of open) file.close();
    throw error;
  }
  return open;
}

/** The licence in the front matter of the model card. */
function licenceOf(folder: string): string {
  return /^license:\s*(\S+)/m.exec(readOptionalText(folder, 'README.md') ?? '')?.[1] ?? 'unknown';
}
