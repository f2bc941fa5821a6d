/**
 * Lays a model's units over several GPUs: whole stages in order of depth, by the free memory of each GPU.
 *
 * An exit block lies beside the stage that it branches from. The embedding lies on the first GPU, the head on the last.
 */
import { join } from 'node:path';
import { type Manifest, type StageEntry, type StageKernel, storedKernel } from './manifest.js';
import { keptBoundaries, layerBytes, stateBytes } from './memory.js';
import { externalTensors } from './onnx-weights.js';

/** Bytes of a part of a model that lies on one GPU. */
export interface Need {
  readonly name: string;
  readonly bytes: number;
}

/** The stage behind the last one of each GPU, and the largest share of its memory that a GPU gives. */
interface Division {
  readonly ends: readonly number[];
  readonly share: number;
}

/** A GPU to lay stages on. */
export interface Room {
  /** As `--device` names it. */
  readonly name: string;
  /** Free memory; null if the driver does not say it. */
  readonly bytes: number | null;
}

/**
 * Weights, KV cache and stored hidden states of each stage, with those of the blocks that branch from it. The first
 * stage counts the embedding, the last one the head.
 * @param positions positions of all sequences together
 * @param headRows rows of logits
 */
export function stageNeeds(
  dir: string,
  manifest: Manifest,
  kernels: readonly StageKernel[],
  positions: number,
  headRows: number,
): Need[] {
  const { stages, exits, embed, head, architecture } = manifest;
  const weights = (file: string | undefined): number =>
    file === undefined ? 0 : externalTensors(join(dir, file)).reduce((sum, { length }) => sum + length, 0);
  const unit = ({ graphs, layers }: StageEntry): number =>
    [...new Set(kernels.map(storedKernel))].reduce(
      (sum, kernel) => sum + weights(graphs[kernel]),
      layers * layerBytes(manifest) * positions,
    );
  const kept = keptBoundaries(manifest);
  const ends = [weights(embed), weights(head) + headRows * architecture.vocab * 4];
  return stages.map((stage, index) => {
    const blocks = exits.flatMap(({ block }) => (block?.boundary === index + 1 ? block : []));
    const states = kept.has(index + 1) ? stateBytes(manifest) * positions : 0;
    const end = (index === 0 ? (ends[0] ?? 0) : 0) + (index === stages.length - 1 ? (ends[1] ?? 0) : 0);
    return { name: stage.name, bytes: [stage, ...blocks].reduce((sum, each) => sum + unit(each), states + end) };
  });
}

/**
 * Divides stages among GPUs so that the share of its memory that the fullest GPU gives is least. Each GPU gets one at
 * least. GPUs of unknown memory count as equal.
 * @returns the GPU of each stage
 * @throws Error if the stages do not fit, or are fewer than the GPUs
 */
export function divideStages(needs: readonly Need[], rooms: readonly Room[]): number[] {
  const device = `--device ${rooms.map(({ name }) => name).join(',')}`;
  if (needs.length < rooms.length)
    throw new Error(
      `${device}: the model has ${needs.length} stage(s) for ${rooms.length} cards; name fewer cards, or convert with more exits`,
    );
  const isKnown = rooms.every(({ bytes }) => bytes !== null);
  const free = rooms.map(({ name, bytes }) =>
    isKnown ? (bytes ?? 0) / rooms.filter((room) => room.name === name).length : 1,
  );
  const sum = (from: number, to: number): number => needs.slice(from, to).reduce((all, { bytes }) => all + bytes, 0);
  const known = new Map<string, Division>();
  /** The best division of the stages from `from` on among the GPUs from `room` on. */
  const divide = (from: number, room: number): Division => {
    const key = `${from}/${room}`;
    const division = known.get(key) ?? search(from, room);
    known.set(key, division);
    return division;
  };
  const search = (from: number, room: number): Division => {
    const shareTo = (end: number): number => sum(from, end) / (free[room] ?? 0);
    if (room === rooms.length - 1) return { ends: [needs.length], share: shareTo(needs.length) };
    let best: Division = { ends: [], share: Infinity };
    for (let end = from + 1; end <= needs.length - (rooms.length - 1 - room) && shareTo(end) < best.share; end++) {
      const rest = divide(end, room + 1);
      const share = Math.max(shareTo(end), rest.share);
      if (share < best.share) best = { ends: [end, ...rest.ends], share };
    }
    return best;
  };
  const { ends, share } = divide(0, 0);
  if (isKnown && !(share <= 1)) throw new Error(`${device}: ${faultOf(needs, rooms, free)} lower --kv-memory`);
  return needs.map((_, stage) => ends.findIndex((end) => stage < end));
}

function faultOf(needs: readonly Need[], rooms: readonly Room[], free: readonly number[]): string {
  const most = Math.max(...free);
  const large = needs.find(({ bytes }) => bytes > most);
  if (large !== undefined)
    return `stage ${large.name} takes ${gibibytes(large.bytes)} with its KV cache, and no card has more than ${gibibytes(most)} free; convert with more exits, or`;
  const all = needs.reduce((total, { bytes }) => total + bytes, 0);
  const together = free.reduce((total, bytes) => total + bytes, 0);
  return `the stages take ${gibibytes(all)} with their KV cache, and do not fit in order of depth on ${rooms.length} cards with ${gibibytes(together)} free; name more cards, or`;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
