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
      const contexts = [...new Set(scenarios.map(contextOf))];
      return contexts.map((context) => ({
        name: `${name}, ${context}`,
        points: scenarios.flatMap((scenario, index) => {
          const decode = rates[index]?.decode ?? NaN;
          if (contextOf(scenario) !== context || !Number.isFinite(decode)) return [];
          return [[scenario.parallel, valueOf(decode, scenario.parallel)] as const];
        }),
      }));
    });
  const x = 'streams';
  return [
    [
      'rate.svg',
      svgOf({
        title: 'Decode rate of all streams by context',
        x,
        y: 'tokens/s',
        yRange: [0, null],
        series: series((decode) => decode),
      }),
    ],
    [
      'time.svg',
      svgOf({
        title: 'Time per token of a stream by context',
        x,
        y: 'ms',
        yRange: [0, null],
        series: series((decode, parallel) => (1000 * parallel) / decode),
      }),
    ],
  ];
}

const contextOf = ({ promptTokens, answerTokens }: Scenario): number => promptTokens + answerTokens;
