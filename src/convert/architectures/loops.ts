/** The loops that a config or a GGUF file states. */
import type { Loops } from '../../engine/model/architecture.js';
import type { Fields } from './fields.js';

/** Far above any published model; a damaged file may claim billions. */
const MOST_LOOPS = 64;

/** @throws ConvertError for a count that is missing or out of range */
export function loopsOf(fields: Fields, key: string, norm: Loops['norm']): Loops {
  const count = fields.number(key);
  if (!Number.isInteger(count) || count < 1 || count > MOST_LOOPS)
    throw fields.fault(key, `an integer from 1 to ${MOST_LOOPS}`);
  return { count, norm };
}

/** The loops of GGUF metadata. llama.cpp reads a file without `num_loops` as one loop, which answers wrongly. */
export function loopsOfMetadata(fields: Fields): Loops {
  return loopsOf(fields, 'num_loops', fields.flag('skip_loop_final_norm') ? 'none' : 'final');
}
