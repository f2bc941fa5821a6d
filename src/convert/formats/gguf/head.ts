/** The first bytes of a GGUF file: its architecture, so that an unknown one costs no download. */
import { familyOfGguf } from '../../architectures/index.js';
import { ConvertError } from '../../conversion-error.js';

/** Magic number and version, then counts of tensors and keys. */
const FIRST_KEY = 24;
const STRING = 8;

/**
 * Checks the architecture where the known writers put it, in the first key.
 * @param head the beginning of the file, some hundred bytes
 * @throws ConvertError unless the file is a GGUF file, of a known architecture or of one that comes later in the file
 */
export function checkGgufHead(head: Uint8Array, file: string): void {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (!bytes.toString('latin1', 0, 4).startsWith('GGUF')) throw new ConvertError(`${file} is not a GGUF file`);
  const text = (at: number): string => bytes.toString('utf8', at + 8, at + 8 + bytes.readUInt32LE(at));
  if (bytes.length < 2 * FIRST_KEY) return;
  const key = text(FIRST_KEY);
  const type = FIRST_KEY + 8 + key.length;
  if (key !== 'general.architecture' || bytes.length < type + 12 || bytes.readUInt32LE(type) !== STRING) return;
  familyOfGguf(text(type + 4), file);
}
