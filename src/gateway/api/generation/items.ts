/** An answer as a list of items, each of one kind: its thoughts, then its text or calls. Must not know: their forms. */
import type { Delta } from './choice.js';
import { saidOf } from './joined-fields.js';

export interface Item {
  readonly kind: 'thoughts' | 'text' | 'call';
  /** Of its place in the list. */
  readonly index: number;
  /** Of a call. */
  readonly id: string;
  readonly name: string;
  /** All of it so far; of a call its arguments. */
  text: string;
}

/** Hears of each item: its start, its further text, and its end before the next one starts. */
export interface ItemListener {
  begins(item: Item): void;
  grows(item: Item, text: string): void;
  ends(item: Item, isLast: boolean): void;
}

export class Items {
  readonly list: Item[] = [];
  /** The last item, as long as it grows. */
  open: Item | null = null;

  constructor(private readonly listener: ItemListener) {}

  add(delta: Delta): void {
    const { call, thoughts } = delta;
    const kind = call !== null ? 'call' : thoughts !== '' ? 'thoughts' : 'text';
    const text = call?.arguments ?? (thoughts || saidOf(delta));
    if (text === '' && call?.id === undefined) return;
    const isSame = this.open?.kind === kind && call?.id === undefined;
    const item = isSame && this.open !== null ? this.open : this.begin(kind, call ?? {});
    if (text === '') return;
    item.text += text;
    this.listener.grows(item, text);
  }

  begin(kind: Item['kind'], { id = '', name = '' }: Partial<Pick<Item, 'id' | 'name'>> = {}): Item {
    this.end(false);
    const item = { kind, index: this.list.length, id, name, text: '' };
    this.list.push(item);
    this.open = item;
    this.listener.begins(item);
    return item;
  }

  end(isLast = true): void {
    if (this.open !== null) this.listener.ends(this.open, isLast);
    this.open = null;
  }
}
