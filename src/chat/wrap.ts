/**
 * Breaks the lines of a streamed text between words, at the edge of the terminal. A word waits until its end is known.
 *
 * Must not know: colours (each part is styled as it leaves).
 */

/** Characters after which a line may break without a space: scripts that write none. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60]|\p{Extended_Pictographic}/u;

/** Columns of a character on a terminal. */
const widthOf = (character: string): number => (WIDE.test(character) ? 2 : /\p{M}/u.test(character) ? 0 : 1);

/** A part of a word, with the style that it leaves in. */
interface Piece {
  text: string;
  readonly style: (text: string) => string;
}

export class WordWrap {
  readonly #write: (text: string) => void;
  readonly #columns: () => number;
  #word: Piece[] = [];
  #wordWidth = 0;
  #column = 0;

  /** @param columns of the terminal at that moment */
  constructor(write: (text: string) => void, columns: () => number) {
    this.#write = write;
    this.#columns = columns;
  }

  add(text: string, style: (text: string) => string = (plain) => plain): void {
    for (const character of text) {
      const isSpace = character === ' ' || character === '\t' || character === '\n';
      if (isSpace || WIDE.test(character)) this.flush();
      if (isSpace) this.#space(character);
      else {
        const last = this.#word.at(-1);
        if (last?.style === style) last.text += character;
        else this.#word.push({ text: character, style });
        this.#wordWidth += widthOf(character);
      }
    }
  }

  /** Writes the word that waits: the text may end with it. */
  flush(): void {
    if (this.#word.length === 0) return;
    const most = this.#columns();
    if (this.#column > 0 && this.#column + this.#wordWidth > most) {
      this.#write('\n');
      this.#column = 0;
    }
    for (const { text, style } of this.#word) this.#write(style(text));
    // The terminal itself breaks a word that is longer than a line.
    const column = this.#column + this.#wordWidth;
    this.#column = column <= most ? column : ((column - 1) % most) + 1;
    this.#word = [];
    this.#wordWidth = 0;
  }

  #space(character: string): void {
    if (character === '\n') {
      this.#write('\n');
      this.#column = 0;
      return;
    }
    // A space at the edge becomes the break of the line.
    const isAtEdge = this.#column + 1 >= this.#columns();
    this.#write(isAtEdge ? '\n' : character);
    this.#column = isAtEdge ? 0 : character === '\t' ? (Math.floor(this.#column / 8) + 1) * 8 : this.#column + 1;
  }
}
