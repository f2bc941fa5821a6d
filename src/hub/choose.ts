/** Chooses the files of a repository that a conversion reads. */
import type { HubName } from '../util/hub-name.js';
import { HubError } from './errors.js';
import type { HubFile } from './repository.js';

/** The files besides weights that the converter reads. */
const SMALL = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'README.md',
];

const INDEX = 'model.safetensors.index.json';
const WEIGHTS = 'model.safetensors';

/** The last part of a file that llama.cpp splits. */
const SPLIT = /-\d{5}-of-\d{5}\.gguf$/i;

export type Choice =
  | { readonly kind: 'gguf'; readonly file: HubFile }
  | {
      readonly kind: 'folder';
      readonly small: readonly HubFile[];
      /** One file of weights, or the index that names them. */
      readonly weights: HubFile;
      readonly isIndex: boolean;
    };

/** @throws HubError if the name fits no file, or several */
export function chooseFiles({ repo, file }: HubName, files: readonly HubFile[]): Choice {
  const at = (path: string): HubFile | undefined => files.find((each) => each.path === path);
  const weights = at(INDEX) ?? at(WEIGHTS);
  if (file === null && weights !== undefined && at('config.json') !== undefined) {
    const small = SMALL.flatMap((path) => at(path) ?? []);
    return { kind: 'folder', small, weights, isIndex: weights.path === INDEX };
  }
  const models = files.filter(({ path }) => /\.gguf$/i.test(path) && !/(^|\/)mmproj/i.test(path));
  const fits = file === null ? models : fitting(file, models);
  const [only] = fits;
  if (only !== undefined && fits.length === 1 && !SPLIT.test(only.path)) return { kind: 'gguf', file: only };
  throw new HubError(`${repo}${file === null ? '' : `:${file}`} ${faultOf(file, models, fits)}`);
}

/** The file of that path, or the files whose name ends like `Q4_K_M`. */
function fitting(wanted: string, models: readonly HubFile[]): HubFile[] {
  const exact = models.find(({ path }) => path === wanted);
  if (exact !== undefined) return [exact];
  const ending = wanted.toLowerCase();
  return models.filter(({ path }) => {
    const stem = path.toLowerCase().replace(/\.gguf$/, '');
    return stem === ending || ['-', '.', '_', '/'].some((separator) => stem.endsWith(`${separator}${ending}`));
  });
}

function faultOf(file: string | null, models: readonly HubFile[], fits: readonly HubFile[]): string {
  if (fits.some(({ path }) => SPLIT.test(path)))
    return 'is split into several GGUF files, which the converter cannot read';
  const names = models.map(({ path }) => path).join(', ');
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
