/** Colours on a terminal, and safe text for it. */

/** The part of a `tty.WriteStream` that tells a terminal from a pipe. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly hasColors?: () => boolean;
}

export interface Style {
  readonly note: (text: string) => string;
  readonly fault: (text: string) => string;
  readonly thoughts: (text: string) => string;
  /** Text in the colour of its depth. @param position 0 at the shallowest exit, 1 at the deepest; null if unknown */
  readonly depth: (text: string, position: number | null) => string;
}

/** From shallow to deep, as in the playground: 256-colour codes of a scale from amber to indigo. */
const DEPTH_COLOURS = [221, 209, 204, 141, 105];

const escaped = (code: string) => (text: string) => `\u001b[${code}m${text}\u001b[0m`;
const plain = (text: string): string => text;

/** @param isColoured whether the stream is a terminal that shows colours */
export function styleOf(isColoured: boolean): Style {
  if (!isColoured) return { note: plain, fault: plain, thoughts: plain, depth: plain };
  return {
    note: escaped('2'),
    fault: escaped('31'),
    thoughts: escaped('2'),
    depth: (text, position) => {
      if (position === null || text === '') return text;
      const colour = DEPTH_COLOURS[Math.round(position * (DEPTH_COLOURS.length - 1))];
      return colour === undefined ? text : escaped(`38;5;${colour}`)(text);
    },
  };
}

/** Whether a stream shows colours. Node.js reads NO_COLOR, FORCE_COLOR and TERM. */
export function hasColours(stream: Terminal): boolean {
  return stream.isTTY === true && stream.hasColors?.() === true;
}

/** A model's text without control characters, which could drive the terminal; line breaks and tabs stay. */
export function printable(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, '');
}
