/**
 * The floor of quality of a request, and the shallowest exit that reaches it.
 *
 * Must not know: how quality is estimated.
 */
import { ApiError } from '../errors.js';
import { headerValues, type Headers } from './budget.js';
import { ASKED } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';
import { quoted } from '../../util/quoted.js';

/** The least quality that a request asks for. */
export interface QualityFloor {
  readonly least: number;
  /** The field or header that states it; null for the operator's. */
  readonly param: string | null;
}

const NAME = ASKED.minQuality;

/**
 * The floor that a request states, else the operator's. Of several header values the largest counts.
 * @throws ApiError invalid_value for a value that is not a number from 0 to 1
 */
export function qualityFloor(
  headers: Headers,
  body: SortieRequest | undefined,
  operators: number | null,
): QualityFloor | null {
  const values = headerValues(headers, NAME).map((text) => {
    const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
    if (value <= 1) return value;
    throw new ApiError('invalid_value', `${NAME} must be a number from 0 to 1, got ${quoted(text)}.`, NAME);
  });
  if (body?.min_quality !== undefined) return { least: body.min_quality, param: 'sortie.min_quality' };
  if (values.length > 0) return { least: Math.max(...values), param: NAME };
  return operators === null ? null : { least: operators, param: null };
}

/**
 * The shallowest of these exits with at least the quality of the floor. The operator's floor is as deep as it can be.
 * @param exits shallowest first
 * @param qualities by exit
 * @throws ApiError invalid_value if no exit reaches the floor of a request
 */
export function exitOfQuality(
  { least, param }: QualityFloor,
  exits: readonly number[],
  qualities: readonly number[],
): number {
  const found = exits.find((_, i) => (qualities[i] ?? 0) >= least);
  if (found !== undefined) return found;
  const best = Math.max(...qualities);
  if (param === null) return exits.at(-1) ?? 0;
  // Rounded down, so that the client may ask for it.
  const most = Math.floor(best * 1000) / 1000;
  const rule = `must be at most ${most}, the best quality of the exits ${exits.join(', ')}`;
  throw new ApiError('invalid_value', `${param} ${rule}, got ${least}.`, param, { best_quality: most });
}
