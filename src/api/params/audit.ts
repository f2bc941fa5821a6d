/** Whether a request asks for an audit of its answer. Must not know: audits. */
import { ApiError } from '../errors.js';
import { quoted } from '../../util/quoted.js';
import { ASKED } from '../schemas/headers.js';
import { headerValues, type Headers } from './budget.js';

const NAME = ASKED.audit;

/** @throws ApiError invalid_value for another value than 1, true, 0 or false, or for different ones */
export function auditHeader(headers: Headers): boolean {
  const texts = headerValues(headers, NAME);
  const values = new Set(
    texts.map((text) => {
      if (['1', 'true'].includes(text)) return true;
      if (['0', 'false'].includes(text)) return false;
      throw new ApiError('invalid_value', `${NAME} must be 1, true, 0 or false, got ${quoted(text)}.`, NAME);
    }),
  );
  if (values.size > 1) throw new ApiError('invalid_value', `${NAME} must have one value, got different ones.`, NAME);
  return values.has(true);
}
