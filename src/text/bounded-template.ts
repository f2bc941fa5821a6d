/**
 * A Jinja template that a model folder brings: its rendering ends in time, and its ranges have a bounded length.
 *
 * The library fills an array for `range(N)`, and the process aborts over a long one. The library's own name stays, so
 * the template gets the bounded function by another name. Must not know: messages.
 */
import { Template } from '@huggingface/jinja';
import { within } from '../util/time-limit.js';

/** Time limit of a rendering, which blocks the event loop. Ordinary ones take a millisecond. */
const MOST_MS = 3000;
const MOST_NUMBERS = 100_000;

const RANGE = 'range';
const BOUNDED = 'bounded_range';

export class BoundedTemplate {
  readonly #template: Template;

  /** @throws Error for a template that the library can't read, or that gives `range` another meaning */
  constructor(source: string) {
    this.#template = new Template(source);
    rename(this.#template.parsed);
  }

  /** @throws TimeLimitError, or an error of the template */
  render(variables: Readonly<Record<string, unknown>>): string {
    return within(MOST_MS, () => this.#template.render({ ...variables, [BOUNDED]: boundedRange }));
  }
}

/** Python's range. @throws Error for too many numbers */
function boundedRange(first: unknown, second?: unknown, third: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, Number(first)] : [Number(first), Number(second)];
  const step = Number(third);
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MOST_NUMBERS) throw new Error(`range() must have at most ${MOST_NUMBERS} numbers, got ${length}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

/** Keys of the syntax tree under which a name is not a variable. */
const FIELDS = ['property', 'key', 'filter', 'test'];
/** Keys under which a name becomes a variable. */
const DECLARATIONS = ['assignee', 'loopvar', 'name'];

/** Renames the uses of `range` in a syntax tree. @param key under which its parent has it */
function rename(node: unknown, key = ''): void {
  if (typeof node !== 'object' || node === null) return;
  const { type, value, computed } = node as { type?: unknown; value?: unknown; computed?: unknown };
  if (type === 'Identifier' && value === RANGE) {
    if (DECLARATIONS.includes(key)) throw new Error(`a template must not declare ${RANGE}`);
    if (!FIELDS.includes(key)) (node as { value: string }).value = BOUNDED;
    return;
  }
  // An object of the template is a map.
  for (const [name, child] of node instanceof Map ? [['', [...node].flat()] as const] : Object.entries(node)) {
    const under = name === 'property' && computed === true ? '' : name;
    for (const each of Array.isArray(child) ? (child as unknown[]) : [child]) rename(each, under);
  }
}
