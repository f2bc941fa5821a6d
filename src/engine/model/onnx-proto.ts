/**
 * The part of the ONNX protobuf schema that Sortie writes and reads, with an encoder and a decoder.
 *
 * SCHEMA is taken from onnx.proto of ONNX 1.21 (https://github.com/onnx/onnx), whose header says:
 *   SPDX-License-Identifier: Apache-2.0, Copyright (c) ONNX Project Contributors.
 * Changed: messages and fields that no graph of Sortie uses are left out (a reader skips unknown fields).
 */
import protobuf from 'protobufjs';

const SCHEMA = `
syntax = "proto2";
package onnx;
message AttributeProto {
  enum AttributeType { UNDEFINED = 0; FLOAT = 1; INT = 2; STRING = 3; INTS = 7; }
  optional string name = 1;
  optional AttributeType type = 20;
  optional float f = 2;
  optional int64 i = 3;
  optional bytes s = 4;
  repeated int64 ints = 8;
}
message ValueInfoProto {
  optional string name = 1;
  optional TypeProto type = 2;
}
message NodeProto {
  repeated string input = 1;
  repeated string output = 2;
  optional string name = 3;
  optional string op_type = 4;
  optional string domain = 7;
  repeated AttributeProto attribute = 5;
}
message ModelProto {
  optional int64 ir_version = 1;
  repeated OperatorSetIdProto opset_import = 8;
  optional string producer_name = 2;
  optional GraphProto graph = 7;
}
message StringStringEntryProto {
  optional string key = 1;
  optional string value = 2;
}
message GraphProto {
  repeated NodeProto node = 1;
  optional string name = 2;
  repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11;
  repeated ValueInfoProto output = 12;
}
message TensorProto {
  enum DataLocation { DEFAULT = 0; EXTERNAL = 1; }
  repeated int64 dims = 1;
  optional int32 data_type = 2;
  optional string name = 8;
  optional bytes raw_data = 9;
  repeated StringStringEntryProto external_data = 13;
  optional DataLocation data_location = 14;
}
message TensorShapeProto {
  message Dimension {
    oneof value { int64 dim_value = 1; string dim_param = 2; }
  }
  repeated Dimension dim = 1;
}
message TypeProto {
  message Tensor {
    optional int32 elem_type = 1;
    optional TensorShapeProto shape = 2;
  }
  oneof value { Tensor tensor_type = 1; }
}
message OperatorSetIdProto {
  optional string domain = 1;
  optional int64 version = 2;
}
`;

const ModelProto = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('onnx.ModelProto');

/** TensorProto.DataType of the element types that Sortie uses. */
export const DATA_TYPE = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, f16: 10 } as const;
export type DataType = keyof typeof DATA_TYPE;

/** Bytes of one element. */
export const DATA_SIZE: Record<DataType, number> = { f32: 4, u8: 1, i8: 1, i32: 4, i64: 8, f16: 2 };

export interface Attribute {
  name: string;
  type: 'FLOAT' | 'INT' | 'STRING' | 'INTS';
  f?: number;
  i?: number;
  s?: Uint8Array;
  ints?: number[];
}

export interface Node {
  name: string;
  op_type: string;
  domain: string;
  input: string[];
  output: string[];
  attribute: Attribute[];
}

export interface Tensor {
  name: string;
  data_type: number;
  dims: number[];
  raw_data?: Uint8Array;
  data_location?: 'DEFAULT' | 'EXTERNAL';
  external_data?: { key: string; value: string }[];
}

export interface ValueInfo {
  name: string;
  type: { tensor_type: { elem_type: number; shape: { dim: ({ dim_value: number } | { dim_param: string })[] } } };
}

export interface Model {
  ir_version: number;
  producer_name: string;
  opset_import: { domain: string; version: number }[];
  graph: { name: string; node: Node[]; initializer: Tensor[]; input: ValueInfo[]; output: ValueInfo[] };
}

/** Serializes a model; equal models give equal bytes. */
export function encodeModel(model: Model): Uint8Array {
  return ModelProto.encode(ModelProto.fromObject(model)).finish();
}

/** Parses a serialized model. Throws if the bytes are not a protobuf message of this schema. */
export function decodeModel(bytes: Uint8Array): Model {
  // `arrays` fills in empty repeated fields, so the result has the shape of Model.
  return ModelProto.toObject(ModelProto.decode(bytes), {
    longs: Number,
    enums: String,
    arrays: true,
    defaults: false,
  }) as Model;
}
