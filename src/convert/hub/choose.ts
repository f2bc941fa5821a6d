/** Chooses the files of a repository that a conversion reads. */
import { ggufPart, ggufPaths } from '../../util/gguf-parts.js';
import type { HubName } from '../../util/hub-name.js';
import { HubError } from './faults.js';
import type { HubFile } from './repository.js';

/** The files besides weights that the converter reads. */
const SMALL = [
  ...['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'],
  ...['chat_template.jinja', 'README.md'],
];

export const INDEX = 'model.safetensors.index.json';
const WEIGHTS = 'model.safetensors';

export interface Choice {
  /** The files of a folder besides weights, with the index of its weights if there is one; none beside a GGUF file. */
  readonly small: readonly HubFile[];
  /** The weights, or all parts of a GGUF file; null: those that the index names. */
  readonly weights: readonly HubFile[] | null;
  /** Path of a GGUF file, of several parts the first; null for a folder. */
  readonly gguf: string | null;
}

/** @throws HubError if the name fits no file, or several */
export function chooseFiles({ repo, file }: HubName, files: readonly HubFile[]): Choice {
  const at = (path: string): HubFile[] => files.filter((each) => each.path === path);
  const index = at(INDEX);
  const weights = at(WEIGHTS);
  if (file === null && index.length + weights.length > 0 && at('config.json').length > 0)
    return { small: [...SMALL.flatMap(at), ...index], weights: index.length > 0 ? null : weights, gguf: null };
  const models = ggufModels(files);
  const fits = file === null ? models : fitting(file, models);
  const [only] = fits;
  if (only === undefined || fits.length > 1)
    throw new HubError(`${repo}${file === null ? '' : `:${file}`} ${faultOf(file, models, fits)}`);
  const missing = only.find((path) => at(path).length === 0);
  if (missing !== undefined)
    throw new HubError(`${repo} lacks ${missing}, one of the ${only.length} parts of a GGUF model`);
  return { small: [], weights: only.flatMap(at), gguf: only[0] };
}

/** The paths of a GGUF model: one, or the parts of a split one. */
type Paths = ReturnType<typeof ggufPaths>;

function ggufModels(files: readonly HubFile[]): Paths[] {
  const models = files
    .filter(({ path }) => /\.gguf$/i.test(path) && !/(^|\/)mmproj/i.test(path))
    .map(({ path }) => ggufPaths(path));
  return [...new Map(models.map((paths) => [paths[0], paths])).values()];
}

/** The model with a file of that path, or the models whose name ends like `Q4_K_M`. */
function fitting(wanted: string, models: readonly Paths[]): Paths[] {
  const exact = models.find((paths) => paths.includes(wanted));
  if (exact !== undefined) return [exact];
  const ending = wanted.toLowerCase();
  return models.filter(([path]) => {
    const stem = (ggufPart(path)?.stem ?? path.replace(/\.gguf$/i, '')).toLowerCase();
    return stem === ending || ['-', '.', '_', '/'].some((separator) => stem.endsWith(`${separator}${ending}`));
  });
}

function faultOf(file: string | null, models: readonly Paths[], fits: readonly Paths[]): string {
  const names = models.map(([path]) => path).join(', ');
  if (models.length === 0) return `has no GGUF file${file === null ? ', and no config.json with safetensors' : ''}`;
  if (file === null) return `has several GGUF files; add one to the name, as in ORG/NAME:FILE: ${names}`;
  return `fits ${fits.length === 0 ? 'none' : 'several'} of the GGUF files ${names}`;
}

/**
 * The weight files that an index names.
 * @param index the content of model.safetensors.index.json
 * @throws HubError for a name that the repository lacks
 */
export function indexedFiles(repo: string, index: string, files: readonly HubFile[]): HubFile[] {
  const fault = (what: string): HubError => new HubError(`${repo}: ${INDEX} ${what}`);
  let map: unknown;
  try {
    map = (JSON.parse(index) as { weight_map?: unknown } | null)?.weight_map;
  } catch {
    throw fault('is not JSON');
  }
  if (typeof map !== 'object' || map === null) throw fault('has no weight_map');
  return [...new Set(Object.values(map))].map((name) => {
    const found = files.find(({ path }) => path === name);
    if (found !== undefined) return found;
    throw fault(`names ${String(name)}, which the repository lacks`);
  });
}
