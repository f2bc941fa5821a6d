/** Shows the progress of a download: a bar on a terminal, lines elsewhere. */
import type { PullProgress } from '../convert/hub/pull.js';
import { progressBar } from '../util/progress-bar.js';

export interface PullDisplay {
  readonly progress: PullProgress;
  /** May be called twice. */
  stop(): void;
}

/** Without a terminal, a line for each file. */
export function pullDisplay(terminal: NodeJS.WriteStream): PullDisplay {
  let last = '';
  if (!terminal.isTTY) {
    return {
      progress: ({ total, what }) => {
        const line = `downloading ${what} (${megabytes(total)} in all)\n`;
        if (line !== last) terminal.write(line);
        last = line;
      },
      stop: () => undefined,
    };
  }
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
