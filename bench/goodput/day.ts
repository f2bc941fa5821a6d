/**
 * One server, one day: phases of changing load with bursts, a flash crowd and a fault. The shape of the day is the first
 * one of ServeGen's trace `m-small`. Pure functions.
 */
import { svgOf } from '../loadgen/plot.js';
import { isMet, meanOf } from '../loadgen/summary.js';
import { tableOf } from '../table.js';
import type { DayRun, Sent } from './record.js';
import type { Side } from './side.js';

/** Requests of each hour, as multiples of the mean of two weeks. */
const HOURS = [
  ...[0.67, 0.53, 0.49, 0.5, 0.48, 0.54, 0.6, 0.66, 0.72, 0.91, 0.84, 0.74, 0.69, 0.68, 0.84, 0.9, 0.93, 0.97, 0.99],
  ...[1.21, 1.47, 1.43, 1.3, 1.03],
];
/** Mean load of the hours. */
const MEAN_LOAD = 1.5;
/** A quiet hour has this load instead. */
const CROWD = { phase: 4, load: 5 };
/** Phases in which another process takes a core. */
export const FAULT: readonly number[] = [15, 16];
/** Requests of a window that shows the recovery. */
const WINDOW = 10;

export interface Phase {
  /** Multiple of the throughput of full depth. */
  readonly load: number;
  /** Arrivals, ms from the start of the day. */
  readonly times: readonly number[];
}

/** The phases of a day. @param perSecond requests per second of load 1 */
export function dayOf(seconds: number, perSecond: number, random: () => number): Phase[] {
  const scale = MEAN_LOAD / meanOf(HOURS);
  return HOURS.map((hour, i) => {
    const load = i === CROWD.phase ? CROWD.load : hour * scale;
    // The squared coefficient of variation of the intervals is 1 and 4 in turn.
    const shape = i % 2 === 0 ? 1 : 1 / 4;
    const times: number[] = [];
    for (let ms = 0; ;) {
      ms += (gamma(shape, random) * 1000) / (shape * load * perSecond);
      if (ms >= seconds * 1000) break;
      times.push(i * seconds * 1000 + ms);
    }
    return { load, times };
  });
}

/** A gamma variate of mean `shape`, at most 1 (Jöhnk's method). */
function gamma(shape: number, random: () => number): number {
  const exponential = -Math.log(1 - random());
  if (shape === 1) return exponential;
  for (;;) {
    const x = random() ** (1 / shape);
    const y = random() ** (1 / (1 - shape));
    if (x + y <= 1 && x + y > 0) return (exponential * x) / (x + y);
  }
}

/** @param sent in the order of the arrivals */
export function dayRun(side: string, { kind }: Side, seed: number, day: Phase[], sent: readonly Sent[]): DayRun {
  const worth = sent.map((each) => (isMet(each) ? each.answer.right : 0));
  const timely = sent.map((each) => Number(isMet(each)));
  const starts = day.map((_, i) => day.slice(0, i).reduce((sum, { times }) => sum + times.length, 0));
  const own = (values: readonly number[], phase: number) =>
    values.slice(starts[phase], (starts[phase] ?? 0) + (day[phase]?.times.length ?? 0));
  const usual = meanOf(own(timely, CROWD.phase - 1));
  const behind = starts[CROWD.phase + 1] ?? sent.length;
  const found = timely.findIndex((_, i) => i >= behind && meanOf(timely.slice(i, i + WINDOW)) >= usual);
  const [first, recovered] = [sent[behind], sent[found]];
  return {
    ...{ side, kind, seed, requests: sent.length, rightInTime: meanOf(worth), inTime: meanOf(timely) },
    phases: day.map((_, i) => (own(worth, i).length === 0 ? null : meanOf(own(worth, i)))),
    recoveryS: first === undefined || recovered === undefined ? null : (recovered.atMs - first.atMs) / 1000,
  };
}

/** The sides, the best first, with right in time in all and by phase, seeds together; NaN for a phase without requests. */
function sidesIn(runs: readonly DayRun[]) {
  const sides = [...new Set(runs.map(({ side }) => side))].map((side) => {
    const own = runs.filter((run) => run.side === side);
    const phases = HOURS.map((_, i) => meanOf(own.flatMap((run) => run.phases[i] ?? [])));
    return { side, own, worth: meanOf(own.map(({ rightInTime }) => rightInTime)), phases };
  });
  return sides.sort((a, b) => b.worth - a.worth);
}

/**
 * One row for each side, the best first. Regret is what a side loses against the best fixed one, which only hindsight
 * knows: of the day, and of each phase (the mean and the worst).
 */
export function dayTable(runs: readonly DayRun[]): string[] {
  const sides = sidesIn(runs);
  const fixed = sides.filter(({ own }) => own[0]?.kind === 'fixed');
  const best = Math.max(...fixed.map(({ worth }) => worth));
  const bestOf = HOURS.map((_, i) => Math.max(...fixed.map(({ phases }) => phases[i] ?? NaN)));
  const rows = sides.map(({ side, own, worth, phases }) => {
    const present = phases.filter((value) => !Number.isNaN(value));
    const regrets = phases.flatMap((value, i) => (Number.isNaN(value) ? [] : (bestOf[i] ?? NaN) - value));
    const recoveries = own.map(({ recoveryS }) => recoveryS?.toFixed(0) ?? 'none');
    return [
      ...[side, String(own.length), share(worth), share(meanOf(own.map(({ inTime }) => inTime)))],
      ...[share(Math.min(...present)), ...[best - worth, meanOf(regrets), Math.max(...regrets)].map(share)],
      recoveries.join(' '),
    ];
  });
  const regret = ['regret, day', 'regret, mean phase', 'regret, worst phase'];
  return tableOf([['side', 'seeds', 'right in time', 'in time', 'worst phase', ...regret, 'recovery, s'], ...rows]);
}

/** A dash without a fixed side to compare with. */
const share = (value: number): string => (Number.isFinite(value) ? value.toFixed(3) : '-');

/** Right in time of each side by phase, as SVG. */
export function dayPlot(model: string, runs: readonly DayRun[]): string {
  const series = sidesIn(runs).map(({ side, phases }) => ({
    name: side,
    points: phases.map((worth, i) => [i + 1, worth] as const),
  }));
  return svgOf({ title: `${model}: a day of changing load`, x: 'phase of the day', y: 'right in time', series });
}
