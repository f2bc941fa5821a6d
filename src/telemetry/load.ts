/** Counts the steps of an engine for load reports. Must not know: HTTP. */
import type { Engine } from '../engine/client/engine.js';
import type { LoadMeter } from '../util/load-meter.js';

/** @param floor the shallowest exit layer of a request that states no depth */
export function meterSteps(engine: Engine, meter: LoadMeter, floor: number): void {
  let exits: readonly number[] = [];
  engine.on('ready', (ready) => {
    ({ exits } = ready);
  });
  engine.on('step', ({ tokens, work }) => {
    const floorMs = work?.exitMs.reduce((sum, ms, exit) => sum + ms * Math.min(1, floor / (exits[exit] ?? floor)), 0);
    meter.step(tokens.length, floorMs ?? 0);
  });
}
