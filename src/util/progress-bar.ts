/** The form of all progress bars on a terminal. */
import { SingleBar } from 'cli-progress';

/** A bar that leaves no line behind. @param format of cli-progress: {bar}, {percentage} and fields of an update */
export function progressBar(format: string, terminal: NodeJS.WritableStream): SingleBar {
  return new SingleBar({ format, stream: terminal, hideCursor: true, clearOnComplete: true, barsize: 30 });
}
