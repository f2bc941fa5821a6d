/** Shows the progress of a download: a bar on a terminal, a line for each file elsewhere. */
import { progressBar } from '../util/progress-bar.js';
import type { PullProgress } from '../hub/pull.js';

export interface PullDisplay {
  readonly progress: PullProgress;
  stop(): void;
}

export function pullDisplay(terminal: NodeJS.WriteStream): PullDisplay {
  let last = '';
  if (!terminal.isTTY)
    return {
      progress: ({ total, what }) => {
        if (what !== last) terminal.write(`downloading ${what} (${megabytes(total)} in all)\n`);
        last = what;
      },
      stop: () => undefined,
    };
  const bar = progressBar('{what} {bar} {percentage}% of {size}, {speed}/s', terminal);
  let [started, before] = [0, 0];
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
