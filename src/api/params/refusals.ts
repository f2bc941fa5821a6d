/** Errors of fields that a schema cannot check, because they depend on another field. */
import { ApiError } from '../errors.js';
import { quoted } from '../../util/quoted.js';

export function required(param: string): ApiError {
  return new ApiError('invalid_value', `${param} is required.`, param);
}

/** @param rule says what the server supports instead */
export function notSupported(param: string, got: string, rule: string): ApiError {
  return new ApiError('unsupported_parameter', `${param} ${quoted(got)} is not supported: ${rule}.`, param);
}
