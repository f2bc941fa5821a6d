/**
 * Reads one safetensors file (github.com/huggingface/safetensors): 8 bytes of header length, JSON, raw tensors in F32,
 * F16 or BF16.
 */
import { isValid, Type } from '../../../util/schema.js';
import { ConvertError } from '../../conversion-error.js';
import type { TensorFile } from '../../source.js';
import { GGML_FORMATS } from '../dequantize.js';
import { checkInside, SourceFile, type StoredTensor, tensorOf } from '../file.js';
import { parseObject } from './files.js';

/** The format's own limit of the JSON header, in bytes. */
const MAX_HEADER_BYTES = 100_000_000;
/** A tensor has up to ten: the largest models have 100,000 tensors in all their files. */
const MAX_VALUES = 2 ** 20;

const SUPPORTED = ['F32', 'F16', 'BF16'];
const FORMATS = new Map([...GGML_FORMATS.values()].map((format) => [format.name, format]));

const Size = Type.Integer({ minimum: 0 });
const Entry = Type.Object({
  dtype: Type.String(),
  shape: Type.Array(Size),
  data_offsets: Type.Tuple([Size, Size]),
});

/** Opens a file and checks that every tensor lies inside it. */
export function openSafetensors(path: string): TensorFile {
  const file = new SourceFile(path);
  const fail = (why: string) => new ConvertError(`${path} is not a safetensors file: ${why}`);
  try {
    const length = Number(new DataView(file.read(0, 8, 'the header').buffer).getBigUint64(0, true));
    if (length > MAX_HEADER_BYTES) throw fail(`its header has ${length} bytes`);
    const header = new TextDecoder().decode(file.read(8, length, 'the header'));
    const tensors = new Map<string, StoredTensor>();
    for (const [name, entry] of Object.entries(parseObject(header, MAX_VALUES, (why) => fail(`its header ${why}`)))) {
      if (name === '__metadata__') continue;
      if (!isValid(Entry, entry)) throw fail(`its entry ${name} must have dtype, shape and data_offsets`);
      const { dtype, shape, data_offsets } = entry;
      const format = SUPPORTED.includes(dtype) ? FORMATS.get(dtype) : undefined;
      const size = data_offsets[1] - data_offsets[0];
      if (format && shape.reduce((a, b) => a * b, format.bytes) !== size)
        throw fail(`tensor ${name} of shape [${shape.join(', ')}] has ${size} bytes`);
      const tensor = { name, shape, type: `dtype ${dtype}`, format, file, offset: 8 + length + data_offsets[0] };
      checkInside(tensor, tensor.offset + size);
      tensors.set(name, tensor);
    }
    return {
      names: [...tensors.keys()],
      tensor(name) {
        const stored = tensors.get(name);
        if (!stored) throw new ConvertError(`${path} has no tensor ${name}`);
        return tensorOf(stored, SUPPORTED);
      },
      close: () => {
        file.close();
      },
    };
  } catch (error) {
    file.close();
    throw error;
  }
}
