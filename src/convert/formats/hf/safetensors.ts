/**
 * Reads one safetensors file (github.com/huggingface/safetensors): 8 bytes of header length, JSON, raw tensors in F32,
 * F16 or BF16.
 */
import { mayHoldMoreValues } from '../../../util/json-size.js';
import { isValid, type Static, Type } from '../../../util/schema.js';
import { ConvertError } from '../../conversion-error.js';
import { assertFinite, SourceFile } from '../../file.js';
import { bf16, f16, f32 } from '../gguf/dequantize.js';
import type { SourceTensor, Tensors } from '../../tensors.js';

/** The format's own limit of the JSON header, in bytes. */
const MAX_HEADER_BYTES = 100_000_000;
/** A tensor has up to ten: the largest models have 100,000 tensors in all their files. */
const MAX_VALUES = 2 ** 20;

const DECODERS: Record<string, { bytes: number; decode(src: Uint8Array, out: Float32Array): void }> = {
  F32: { bytes: 4, decode: f32 },
  F16: { bytes: 2, decode: f16 },
  BF16: { bytes: 2, decode: bf16 },
};

const Size = Type.Integer({ minimum: 0 });
const Entry = Type.Object({
  dtype: Type.String(),
  shape: Type.Array(Size),
  data_offsets: Type.Tuple([Size, Size]),
});
type Entry = Static<typeof Entry>;

export interface Safetensors extends Tensors {
  readonly close: () => void;
}

/** Opens a file and checks that every tensor lies inside it. */
export function openSafetensors(path: string): Safetensors {
  const file = new SourceFile(path);
  const fail = (why: string) => new ConvertError(`${path} is not a safetensors file: ${why}`);
  try {
    const length = Number(new DataView(file.read(0, 8, 'the header').buffer).getBigUint64(0, true));
    if (length > MAX_HEADER_BYTES) throw fail(`its header has ${length} bytes`);
    const entries = parseHeader(new TextDecoder().decode(file.read(8, length, 'the header')), fail);
    const base = 8 + length;
    for (const [name, { dtype, shape, data_offsets }] of entries) {
      const decoder = DECODERS[dtype];
      const size = data_offsets[1] - data_offsets[0];
      if (decoder && shape.reduce((a, b) => a * b, decoder.bytes) !== size)
        throw fail(`tensor ${name} of shape [${shape.join(', ')}] has ${size} bytes`);
      if (base + data_offsets[1] > file.size)
        throw new ConvertError(
          `${path} is truncated: tensor ${name} ends at byte ${base + data_offsets[1]}, the file has ${file.size}`,
        );
    }
    return {
      names: [...entries.keys()],
      tensor(name) {
        const entry = entries.get(name);
        if (!entry) throw new ConvertError(`${path} has no tensor ${name}`);
        return tensorOf(file, name, entry, base);
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

function parseHeader(text: string, fail: (why: string) => ConvertError): Map<string, Entry> {
  if (mayHoldMoreValues(text, MAX_VALUES)) throw fail(`its header must have at most ${MAX_VALUES} values`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw fail('its header is not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw fail('its header is not an object');
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(json as Record<string, unknown>)) {
    if (name === '__metadata__') continue;
    if (!isValid(Entry, value)) throw fail(`its entry ${name} must have dtype, shape and data_offsets`);
    entries.set(name, value);
  }
  return entries;
}

function tensorOf(file: SourceFile, name: string, entry: Entry, base: number): SourceTensor {
  const decoder = DECODERS[entry.dtype];
  if (!decoder)
    throw new ConvertError(
      `${file.path}: tensor ${name} has dtype ${entry.dtype}; supported: ${Object.keys(DECODERS).join(', ')}`,
    );
  const width = entry.shape.at(-1) ?? 1;
  return {
    name,
    shape: entry.shape,
    rows(start, count) {
      const rowBytes = width * decoder.bytes;
      const out = new Float32Array(count * width);
      decoder.decode(
        file.read(base + entry.data_offsets[0] + start * rowBytes, count * rowBytes, `tensor ${name}`),
        out,
      );
      assertFinite(out, `${file.path}: tensor ${name}`);
      return out;
    },
  };
}
