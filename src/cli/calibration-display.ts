/** Shows the progress of a calibration: a bar on a terminal, a line at each quarter elsewhere. */
import { progressBar } from '../util/progress-bar.js';

export interface CalibrationDisplay {
  readonly progress: (what: string, done: number, total: number) => void;
  /** May be called twice. */
  stop(): void;
}

export function calibrationDisplay(terminal: NodeJS.WriteStream): CalibrationDisplay {
  let last = '';
  if (!terminal.isTTY)
    return {
      progress: (what, done, total) => {
        const line = `${what}: ${25 * Math.floor((4 * done) / Math.max(1, total))}%`;
        if (line !== last) terminal.write(`${line}\n`);
        last = line;
      },
      stop: () => undefined,
    };
  const bar = progressBar('{what} {bar} {percentage}%', terminal);
  bar.start(1, 0, { what: '' });
  return {
    progress: (what, done, total) => {
      bar.setTotal(total);
      bar.update(done, { what });
    },
    stop: () => {
      bar.stop();
    },
  };
}
