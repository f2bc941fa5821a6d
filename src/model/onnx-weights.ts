/** Finds a graph's weights: reads the external-data table of an ONNX file. */
import { readFileSync } from 'node:fs';
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

/** Where the bytes of an initializer lie. */
export type Placed = Pick<ExternalTensor, 'location' | 'offset' | 'length'>;

/** Reads an external-data entry; a broken one has no location, or a length of NaN. */
export function placeOf({
  external_data: entries = [],
}: Tensor): Omit<Placed, 'location'> & { location: string | undefined } {
  const entry = (key: string) => entries.find((item) => item.key === key)?.value;
  return { location: entry('location'), offset: Number(entry('offset') ?? 0), length: Number(entry('length')) };
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
