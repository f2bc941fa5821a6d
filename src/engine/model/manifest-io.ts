/** Reads the manifest of a model folder and checks the files. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type {} from '../../util/schema.js';
import { hubHint } from '../../util/hub-name.js';
import { insideFolder } from '../../util/inside-folder.js';
import { validationMessage } from '../../util/validation-message.js';
import { type FileEntry, type KeptPoint, type LengthQuantile, type Quality, type StageEntry } from './manifest.js';
import { cacheOfLayers } from './memory.js';
import { Manifest, MANIFEST_VERSION } from './manifest.js';

export const MANIFEST_FILE = 'manifest.json';

/**
 * Parses and validates the manifest. An error names the file and the field. No name of the manifest leads outside of
 * the folder, so that its readers may join them.
 */
export function loadManifest(dir: string): Manifest {
  const file = path.join(dir, MANIFEST_FILE);
  if (!existsSync(dir))
    throw new Error(`there is no ${/\.gguf$/i.test(dir) ? 'file' : 'folder'} ${dir}${hubHint(dir)}`);
  // A GGUF file or a Hugging Face folder is the likeliest mistake, so the error explains how to convert it.
  if (!existsSync(file))
    throw new Error(`${dir} is not a model folder (it has no ${MANIFEST_FILE}); \`sortie convert\` makes one`);
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(insideFolder(dir, MANIFEST_FILE), 'utf8'));
  } catch (cause) {
    throw new Error(`cannot read ${file}: ${(cause as Error).message}`);
  }
  const { version } = (json ?? {}) as { version?: unknown };
  if (typeof version === 'number' && version !== MANIFEST_VERSION)
    throw new Error(`${file}: version must be ${MANIFEST_VERSION}, got ${version}; convert the model again`);
  const fault = validationMessage(Manifest, json);
  if (fault !== null) throw new Error(`${file}: ${fault}`);
  const manifest = json as Manifest;
  const disorder = disorderOf(manifest);
  if (disorder !== null) throw new Error(`${file}: ${disorder}`);
  for (const [field, name] of namedFiles(manifest)) checkInside(dir, name, `${file}: ${field}`);
  return manifest;
}

/** @throws Error that begins with the place that names the file */
export function checkInside(dir: string, name: string, place: string): void {
  try {
    insideFolder(dir, name);
  } catch (error) {
    throw new Error(`${place}: ${(error as Error).message}`);
  }
}

/** The files that a manifest names, each with its field. */
function namedFiles(manifest: Manifest): [field: string, name: string][] {
  const { stages, exits, files, tokenizer, chatTemplate, gate, pages, embed, head, select, argmax } = manifest;
  const single = { tokenizer, chatTemplate, gate, embed, head, select, argmax, 'pages/lower': pages?.lower };
  const graphs = [
    ...stages.map(({ graphs }, i) => [`/stages/${i}/graphs`, graphs] as const),
    ...exits.flatMap(({ block }, i) => [
      [`/exits/${i}/block/graphs`, block?.graphs ?? {}] as const,
      [`/exits/${i}/block/prompt/graphs`, block?.prompt?.graphs ?? {}] as const,
    ]),
  ];
  return [
    ...Object.entries(single).flatMap(([field, name]): [string, string][] =>
      name == null ? [] : [[`/${field}`, name]],
    ),
    ...graphs.flatMap(([field, each]) =>
      Object.entries(each).map(([kernel, name]): [string, string] => [`${field}/${kernel}`, name]),
    ),
    ...files.map(({ path }, i): [string, string] => [`/files/${i}/path`, path]),
  ];
}

/** K of the select graph (manifest.ts). */
const MOST_TOP = 64;

/** Finds an inconsistency of an edited manifest, which would serve the wrong layers; null if there is none. */
function disorderOf(manifest: Manifest): string | null {
  const { architecture, topK, kept = [] } = manifest;
  const { rotary, pattern, vocab } = architecture;
  const most = Math.min(MOST_TOP, vocab);
  if (topK > most) return `/topK must be at most ${most}, got ${topK}`;
  const kind = pattern.findIndex((kind) => kind.rotary !== null && kind.rotary >= rotary.length);
  if (kind >= 0) return `/architecture/pattern/${kind}/rotary must be below ${rotary.length}`;
  return disorderOfExits(manifest) ?? disorderOfKept(kept);
}

/** Each stage has one exit. */
function disorderOfExits({ stages, exits }: Pick<Manifest, 'stages' | 'exits'>): string | null {
  for (const [i, stage] of stages.entries()) {
    const fault = stage.boundary === i ? disorderOfHeads(stage) : `boundary must be ${i}`;
    if (fault !== null) return `/stages/${i}/${fault}`;
  }
  if (exits.length !== stages.length) return `/exits must be one for each of the ${stages.length} stages`;
  let before = 0;
  for (const [i, { layer, stage, block, lengths, quality }] of exits.entries()) {
    if (stage !== i) return `/exits/${i}/stage must be ${i}`;
    if (layer <= before) return `/exits/${i}/layer must be above ${before}`;
    const fault =
      disorderOfBlock(block, stage) ??
      disorderOfAccuracy(quality) ??
      disorderOfLengths(lengths?.chat ?? [], 'lengths/chat/');
    if (fault !== null) return `/exits/${i}/${fault}`;
    before = layer;
  }
  return null;
}

function disorderOfAccuracy({ accuracyByPrompt: points = [] }: Quality): string | null {
  for (const [i, [tokens]] of points.entries()) {
    const [fewer] = points[i - 1] ?? [-1];
    if (tokens <= fewer) return `quality/accuracyByPrompt/${i}/0 must be above ${fewer}, got ${tokens}`;
  }
  return null;
}

function disorderOfBlock(block: StageEntry | null, stage: number): string | null {
  if (block === null) return null;
  if (block.boundary !== stage + 1) return `block/boundary must be ${stage + 1}`;
  const caches = 1 + Math.max(...cacheOfLayers(block));
  if (block.layers !== caches) return `block/layers must be ${caches}`;
  const fault = disorderOfHeads(block);
  return fault === null ? null : `block/${fault}`;
}

function disorderOfHeads({ heads, layers }: StageEntry): string | null {
  return heads === undefined || heads.length === layers ? null : `heads must be one for each of ${layers} KV caches`;
}

function disorderOfLengths(quantiles: readonly LengthQuantile[], place: string): string | null {
  for (const [i, [share, tokens]] of quantiles.entries()) {
    const [less, fewer] = quantiles[i - 1] ?? [0, 0];
    if (share <= less) return `${place}${i}/0 must be above ${less}, got ${share}`;
    if (tokens <= fewer) return `${place}${i}/1 must be above ${fewer}, got ${tokens}`;
  }
  return null;
}

function disorderOfKept(kept: readonly KeptPoint[]): string | null {
  for (const [i, [tokens, worth]] of kept.entries()) {
    const [fewer, less] = kept[i - 1] ?? [-1, -1];
    if (tokens <= fewer) return `/kept/${i}/0 must be above ${fewer}, got ${tokens}`;
    if (worth <= less) return `/kept/${i}/1 must be above ${less}, got ${worth}`;
  }
  const last = kept.length - 1;
  const start = kept[0];
  const end = kept[last];
  if (start !== undefined && (start[0] !== 0 || start[1] !== 0)) return `/kept/0 must be [0,0], got [${start.join()}]`;
  return end === undefined || end[1] === 1 ? null : `/kept/${last}/1 must be 1, got ${end[1]}`;
}

/** Size and SHA-256 of a file, streamed. @throws the abort reason of the signal */
export async function describeFile(dir: string, name: string, signal?: AbortSignal): Promise<FileEntry> {
  const file = path.join(dir, name);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash, { signal });
  return { path: name, size: statSync(file).size, sha256: hash.digest('hex') };
}

/**
 * Compares every listed file with its size and SHA-256; the error names the first file that differs.
 * @param signal aborts the check, which takes minutes for a large model
 */
export async function verifyFiles(dir: string, manifest: Manifest, signal?: AbortSignal): Promise<void> {
  for (const entry of manifest.files) {
    const file = path.join(dir, entry.path);
    const size = statSync(file, { throwIfNoEntry: false })?.size;
    if (size === undefined) throw new Error(`${file} is missing`);
    if (size !== entry.size) throw new Error(`${file} has ${size} bytes, the manifest says ${entry.size}`);
    const { sha256 } = await describeFile(dir, entry.path, signal);
    if (sha256 !== entry.sha256)
      throw new Error(`${file} is damaged: SHA-256 ${sha256}, the manifest says ${entry.sha256}`);
  }
}
