/** The two plots of `bench:engine --growth`. */
import { type Plot, svgOf } from '../../src/util/plot.js';
import type { Rate, Scenario } from '../scenario.js';

/** A side with a rate for each scenario. */
export interface Measured {
  readonly name: string;
  readonly rates: readonly Rate[];
}

/** @returns ends of file names, and SVG texts: tokens per second of all streams, and milliseconds per token of each */
export function growthPlots(scenarios: readonly Scenario[], sides: readonly Measured[]): [end: string, svg: string][] {
  const series = (valueOf: (decode: number, parallel: number) => number): Plot['series'] =>
    sides.flatMap(({ name, rates }) => {
      const lengths = [...new Set(scenarios.map(promptOf))];
      return lengths.map((length) => ({
        name: `${name}, ${length}`,
        points: scenarios.flatMap((scenario, index) => {
          const decode = rates[index]?.decode ?? NaN;
          if (promptOf(scenario) !== length || !Number.isFinite(decode)) return [];
          return [[scenario.parallel, valueOf(decode, scenario.parallel)] as const];
        }),
      }));
    });
  const x = 'streams';
  return [
    [
      'rate.svg',
      svgOf({
        title: 'Decode rate of all streams by length of the prompts',
        x,
        y: 'tokens/s',
        yRange: [0, null],
        series: series((decode) => decode),
      }),
    ],
    [
      'time.svg',
      svgOf({
        title: 'Time per token of a stream by length of the prompts',
        x,
        y: 'ms',
        yRange: [0, null],
        series: series((decode, parallel) => (1000 * parallel) / decode),
      }),
    ],
  ];
}

const promptOf = ({ promptTokens }: Scenario): number => promptTokens;
