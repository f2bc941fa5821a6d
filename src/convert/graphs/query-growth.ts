/** Multipliers of queries that grow with the position (`queryGrowth` of the manifest), from `seqlens_k`. */
import type { Architecture } from '../../engine/model/architecture.js';
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import type { Graph } from '../../engine/model/onnx-graph.js';
import type { FloatType } from './vectors.js';

/** Adds 1 + beta * ln(1 + floor(p / originalContext)) for the positions p of the call; returns the name, [B, S, 1]. */
export function queryGrowth(
  graph: Graph,
  { beta, originalContext }: NonNullable<Architecture['queryGrowth']>,
  floatType: FloatType,
): string {
  const float = (label: string, value: number) => graph.constant(`growth.${label}`, 'f32', [], Float32Array.of(value));
  const int = (label: string, dims: number[], value: number) =>
    graph.constant(`growth.${label}`, 'i64', dims, BigInt64Array.of(BigInt(value)));
  const node = (op: string, inputs: string[], label: string, attributes = {}) =>
    graph.node(op, inputs, [`growth.${label}`], attributes);
  // seqlens_k is the last position of each row, and the call ends there.
  const shape = node('Shape', ['hidden'], 'shape');
  const count = node('Gather', [shape, int('axis', [], 1)], 'count');
  const offsets = node(
    'Range',
    [node('Sub', [int('one', [], 1), count], 'first'), int('end', [], 1), 'growth.one'],
    'offsets',
  );
  const last = node('Cast', ['seqlens_k'], 'last', { to: DATA_TYPE.i64 });
  const column = node('Unsqueeze', [last, int('column', [1], 1)], 'rows');
  const positions = node('Cast', [node('Add', [column, offsets], 'positions')], 'p', { to: DATA_TYPE.f32 });
  const turns = node('Floor', [node('Div', [positions, float('context', originalContext)], 'quotient')], 'turns');
  const log = node('Log', [node('Add', [turns, float('unit', 1)], 'base')], 'log');
  const factor = node('Add', [node('Mul', [log, float('beta', beta)], 'grown'), 'growth.unit'], 'factor');
  const all = node('Unsqueeze', [factor, int('depth', [1], 2)], 'all');
  return floatType === 'f32' ? all : node('Cast', [all], 'half', { to: DATA_TYPE.f16 });
}
