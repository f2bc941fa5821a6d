/** Finds a graph's weights: reads the external-data table of an ONNX file. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkInside } from './manifest-io.js';
import { DATA_SIZE, DATA_TYPE, decodeModel, type DataType, type Tensor } from './onnx-proto.js';

export interface ExternalTensor {
  /** Name of the initializer, unique in the model folder: equal names in two graphs are the same bytes. */
  name: string;
  dtype: DataType;
  dims: number[];
  /** File name relative to the graph's folder. If the manifest lists `${location}.gz`, gunzip that file. */
  location: string;
  /** In bytes, from the start of the uncompressed file. */
  offset: number;
  length: number;
}

const NAME_OF: ReadonlyMap<number, DataType> = new Map(
  (Object.keys(DATA_TYPE) as DataType[]).map((name) => [DATA_TYPE[name], name]),
);

const LOCATION = 'location';

/** Where the bytes of an initializer lie. */
export type Placed = Pick<ExternalTensor, 'location' | 'offset' | 'length'>;

/** Reads an external-data entry; a broken one has no location, or a length of NaN. */
export function placeOf({
  external_data: entries = [],
}: Tensor): Omit<Placed, 'location'> & { location: string | undefined } {
  const entry = (key: string) => entries.find((item) => item.key === key)?.value;
  return { location: entry(LOCATION), offset: Number(entry('offset') ?? 0), length: Number(entry('length')) };
}

/** The fields of an initializer whose bytes lie in a weight file. */
export function externalData(place: Placed): Required<Pick<Tensor, 'data_location' | 'external_data'>> {
  const entries = Object.entries(place).map(([key, value]) => ({ key, value: String(value) }));
  return { data_location: 'EXTERNAL', external_data: entries };
}

/** The initializers of a graph that lie in weight files. Throws an Error that names the file if it can't be read. */
export function externalTensors(graphFile: string): ExternalTensor[] {
  const model = decodeModel(readFileSync(graphFile));
  return model.graph.initializer
    .filter((tensor) => tensor.data_location === 'EXTERNAL')
    .map((tensor) => {
      const dtype = NAME_OF.get(tensor.data_type);
      if (dtype === undefined)
        throw new Error(`${graphFile}: initializer ${tensor.name} has unsupported data type ${tensor.data_type}`);
      const { location, offset, length } = placeOf(tensor);
      const expected = tensor.dims.reduce((a, b) => a * b, DATA_SIZE[dtype]);
      if (location === undefined || !Number.isSafeInteger(offset) || length !== expected)
        throw new Error(`${graphFile}: initializer ${tensor.name} has a broken external data entry`);
      return { name: tensor.name, dtype, dims: tensor.dims, location, offset, length };
    });
}

/**
 * Checks where the weights of graphs lie, before a graph is loaded.
 * @param files graphs of the folder; a missing or damaged one is left to its loader
 * @throws Error that names the graph whose weights lie outside of the folder, or not in its initializers
 */
export function checkWeightFiles(dir: string, files: readonly string[]): void {
  for (const file of new Set(files)) {
    const graph = join(dir, file);
    const locations = locationsOf(graph);
    for (const location of new Set(locations)) checkInside(dir, location, graph);
  }
}

/** The files that the initializers of a graph name; none of a graph that can't be read. */
function locationsOf(graph: string): string[] {
  let bytes: Buffer;
  let tensors: Tensor[];
  try {
    bytes = readFileSync(graph);
    tensors = decodeModel(bytes).graph.initializer;
  } catch {
    return [];
  }
  const entries = tensors.flatMap(({ external_data: all = [] }) => all.filter(({ key }) => key === LOCATION));
  // ONNX Runtime also reads the tensors of attributes, subgraphs and functions, which the decoder leaves out.
  if (countOf(bytes, LOCATION) > entries.length)
    throw new Error(`${graph} must name each weight file in an initializer, and nowhere else`);
  return entries.map(({ value }) => value);
}

function countOf(bytes: Buffer, text: string): number {
  let count = 0;
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + text.length)) count++;
  return count;
}
