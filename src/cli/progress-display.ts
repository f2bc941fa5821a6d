/** Shows the progress of a calibration and of a download: a bar on a terminal, lines elsewhere. */
import type { PullProgress } from '../convert/hub/pull.js';
import { progressBar } from '../util/progress-bar.js';

export interface Display<Progress> {
  readonly progress: Progress;
  /** May be called twice. */
  stop(): void;
}

/** Writes a line where it differs from the last one. */
function changingLine(terminal: NodeJS.WritableStream): (line: string) => void {
  let last = '';
  return (line) => {
    if (line !== last) terminal.write(`${line}\n`);
    last = line;
  };
}

type CalibrationProgress = (what: string, done: number, total: number) => void;

/** Without a terminal, a line at each quarter. */
export function calibrationDisplay(terminal: NodeJS.WriteStream): Display<CalibrationProgress> {
  if (!terminal.isTTY) {
    const say = changingLine(terminal);
    return {
      progress: (what, done, total) => {
        say(`${what}: ${25 * Math.floor((4 * done) / Math.max(1, total))}%`);
      },
      stop: () => undefined,
    };
  }
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

/** Without a terminal, a line for each file. */
export function pullDisplay(terminal: NodeJS.WriteStream): Display<PullProgress> {
  if (!terminal.isTTY) {
    const say = changingLine(terminal);
    return {
      progress: ({ total, what }) => {
        say(`downloading ${what} (${megabytes(total)} in all)`);
      },
      stop: () => undefined,
    };
  }
  let last = '';
  const bar = progressBar('{what} {bar} {percentage}% of {size}, {speed}/s', terminal);
  let started = 0;
  let before = 0;
  return {
    progress: ({ done, total, what }) => {
      // A list of files begins with the bytes that are there already, which say nothing about speed.
      if (done < before || last === '') [started, before] = [performance.now(), done];
      const seconds = Math.max(0.001, (performance.now() - started) / 1000);
      const fields = { what, size: megabytes(total), speed: megabytes((done - before) / seconds) };
      if (last === '') bar.start(total, done, fields);
      last = what;
      bar.setTotal(total);
      bar.update(done, fields);
    },
    stop: () => {
      if (last !== '') bar.stop();
    },
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
