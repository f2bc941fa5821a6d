/**
 * A Jinja template that a model folder brings: its rendering ends in time, and makes a bounded number of list entries
 * and characters. The process aborts over a list that is too long.
 *
 * Must not know: messages.
 */
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { within } from '../../util/time-limit.js';

/** Time limit of a rendering, which blocks the event loop. Ordinary ones take a millisecond. */
const MOST_MS = 1500;
/** Numbers of a range. */
const MOST_NUMBERS = 100_000;
/** Numbers of all ranges of a rendering: an object each. */
const MOST_RANGED = 500_000;
/** Entries of the lists, and characters of the texts, that the expressions of a rendering make: five largest bodies. */
const MOST_MADE = 20 * 2 ** 20;

/** A node of the syntax tree. */
interface Node {
  readonly type: string;
  readonly property?: { readonly type: string };
}

/** The library's types name files without their extension, which TypeScript does not find. */
const Scope = Environment as unknown as new () => { set(name: string, value: unknown): unknown };
const Library = Interpreter as unknown as new (scope: unknown) => {
  run(program: unknown): { readonly value: unknown };
  evaluate(node: Node | undefined, scope: unknown): { readonly value: unknown };
};

/** The library keeps its own function for itself. */
const NOW = new Template('{{ strftime_now(format) }}');

export class BoundedTemplate {
  readonly #template: Template;

  /** @throws Error for a template that the library can't read */
  constructor(source: string) {
    this.#template = new Template(source);
  }

  /** @throws TimeLimitError, or an error of the template */
  render(variables: Readonly<Record<string, unknown>>): string {
    return within(MOST_MS, () => {
      const scope = new Scope();
      for (const [name, value] of Object.entries({ ...globals(), ...variables })) scope.set(name, value);
      return String(new BoundedInterpreter(scope).run(this.#template.parsed).value);
    });
  }
}

/** Evaluates nodes as the library does, and counts what they make. */
class BoundedInterpreter extends Library {
  #made = 0;

  override evaluate(node: Node | undefined, scope: unknown): { readonly value: unknown } {
    const result = super.evaluate(node, scope);
    const { value } = result;
    if (node === undefined || !(Array.isArray(value) || typeof value === 'string')) return result;
    if (isMaker(node, typeof value === 'string')) this.#made += value.length;
    const most = Math.max(this.#made, value.length);
    if (most > MOST_MADE)
      throw new Error(`a rendering must make at most ${MOST_MADE} list entries and characters, got ${most}`);
    return result;
  }
}

/** Whether a node makes its value. Others pass one on, and joined texts share the memory of their parts. */
function isMaker({ type, property }: Node, isText: boolean): boolean {
  if (type === 'CallExpression' || type === 'FilterExpression') return true;
  if (isText) return false;
  return type === 'BinaryExpression' || (type === 'MemberExpression' && property?.type === 'SliceExpression');
}

/** The names that the library gives to every template, with a bounded `range`. */
function globals(): Record<string, unknown> {
  let ranged = 0;
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    raise_exception: (message: string): never => {
      throw new Error(message);
    },
    strftime_now: (format: string): string => NOW.render({ format }),
    range: (...args: readonly unknown[]): number[] => {
      const numbers = rangeOf(...args);
      ranged += numbers.length;
      if (ranged > MOST_RANGED)
        throw new Error(`the ranges of a rendering must have at most ${MOST_RANGED} numbers, got ${ranged}`);
      return numbers;
    },
  };
}

/** Python's range. @throws Error for too many numbers */
function rangeOf(first?: unknown, second?: unknown, third: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, Number(first)] : [Number(first), Number(second)];
  const step = Number(third);
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MOST_NUMBERS) throw new Error(`range() must have at most ${MOST_NUMBERS} numbers, got ${length}`);
  return Array.from({ length }, (_, index) => start + index * step);
}
