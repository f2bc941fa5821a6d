/**
 * Selects the kernel of a unit: the one with the least measured cost for these rows and this past.
 *
 * Must not know: sessions.
 */
import type { StageKernel } from '../model/manifest.js';
import type { CostTable } from '../scheduler/cost/table.js';
import { costAt, type Curve, curveOf } from '../scheduler/cost/table.js';

/** Selects the kernel that a unit runs for a number of rows and positions of past. */
export type KernelChoice = (unit: number, mode: 'decode' | 'prefill', rows: number, context: number) => StageKernel;

interface KernelCurves {
  readonly kernel: StageKernel;
  readonly decode: Curve;
  readonly prefill: Curve;
}

/**
 * @param names names of the units, in unit order
 * @param kernels loaded kernels, preferred first
 */
export function kernelChoice(
  names: readonly string[],
  kernels: readonly StageKernel[],
  table: CostTable,
): KernelChoice {
  const [only] = kernels;
  if (only === undefined) throw new RangeError('no kernel is loaded');
  if (kernels.length === 1) return () => only;
  const curves = names.map((name) =>
    kernels.flatMap((kernel): KernelCurves[] => {
      const cost = table.units.find((unit) => unit.unit === name && unit.kernel === kernel);
      return cost ? [{ kernel, decode: curveOf(cost.decode), prefill: curveOf(cost.prefill) }] : [];
    }),
  );
  return (unit, mode, rows, context) => {
    let best = only;
    let least = Infinity;
    for (const curve of curves[unit] ?? []) {
      const ms = costAt(curve[mode], rows, context);
      if (ms < least) {
        least = ms;
        best = curve.kernel;
      }
    }
    return best;
  };
}
