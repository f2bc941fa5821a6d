/**
 * Renders chat messages as one prompt text, by the Jinja template that a model folder brings. A rendering ends in time,
 * and makes a bounded number of list entries and characters: the process aborts over a list that is too long.
 */
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { randomUUID } from 'node:crypto';
import { thoughtTags, type ThoughtTags } from './thoughts.js';
import { speaksOfTools, withoutTools, type ChatTool, type ChatToolCall } from './tool-form.js';

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
  readonly body?: unknown;
  readonly filter?: unknown;
}

/** A value of the library. Objects and namespaces hold a map. */
interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** The library's types name files without their extension, which TypeScript does not find. */
const Scope = Environment as unknown as new () => { set(name: string, value: unknown): unknown };
const Library = Interpreter as unknown as new (scope: unknown) => {
  run(program: unknown): Value;
  evaluate(node: Node | undefined, scope: unknown): Value;
};

/** The library keeps its own function for itself. */
const NOW = new Template('{{ strftime_now(format) }}');

/**
 * Evaluates nodes as the library does, and counts what they make. The time between two nodes grows with the size of
 * their values alone, so a look at the clock at each node ends a rendering in time.
 */
class BoundedInterpreter extends Library {
  readonly #endsAt = performance.now() + MOST_MS;
  /** Sizes of lists and objects, which do not change. */
  readonly #sizes = new WeakMap<object, number>();
  #made = 0;

  override evaluate(node: Node | undefined, scope: unknown): Value {
    if (performance.now() > this.#endsAt) throw new Error(`a rendering takes more than ${MOST_MS / 1000} s`);
    // A filter statement is a filter of its text, which counts as a value of its own.
    if (node?.type === 'FilterStatement') {
      const operand = { type: 'Program', body: node.body };
      return this.evaluate({ type: 'FilterExpression', operand, filter: node.filter } as Node, scope);
    }
    const result = super.evaluate(node, scope);
    const { value } = result;
    if (node !== undefined && (Array.isArray(value) || typeof value === 'string'))
      if (isMaker(node, typeof value === 'string')) this.#made += value.length;
    const most = Math.max(this.#made, this.#sizeOf(result, true));
    if (most <= MOST_MADE) return result;
    throw new Error(`a rendering must make at most ${MOST_MADE} list entries and characters, got ${most}`);
  }

  /** Characters and entries of a value written out. Infinity: it holds a namespace, which may grow. */
  #sizeOf({ type, value }: Value, isWhole = false): number {
    if (typeof value === 'string') return value.length;
    if (!Array.isArray(value) && !(value instanceof Map)) return 1;
    const isNamespace = type === 'NamespaceValue';
    if (isNamespace && !isWhole) return Infinity;
    const known = isNamespace ? undefined : this.#sizes.get(value);
    if (known !== undefined) return known;
    let size = 1;
    for (const [name, each] of (value as Value[] | Map<string, Value>).entries()) {
      size += String(name).length + this.#sizeOf(each);
    }
    if (!isNamespace) this.#sizes.set(value, size);
    return size;
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

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  /** Thoughts of an assistant message. */
  readonly reasoning_content?: string;
  /** Calls of an assistant message; not empty. */
  readonly tool_calls?: readonly ChatToolCall[];
  /** In a tool message: the call that this result answers. */
  readonly tool_call_id?: string;
}

export type TemplateVariables = Readonly<Record<string, unknown>>;

/** The template rejected the messages with `raise_exception`, or failed; the message is for the client. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

/** A chat template, parsed once. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #speaksOfTools: boolean;
  readonly #specials: Readonly<Record<string, string>>;
  readonly #source: string;
  /** The tags of thoughts; null if the model does not think. */
  readonly thoughts: ThoughtTags | null;

  /** @param specials texts of the special tokens that templates use (bos_token, eos_token) */
  constructor(source: string, specials: Readonly<Record<string, string>>) {
    this.#specials = specials;
    this.#source = source;
    this.thoughts = thoughtTags(source);
    this.#template = new Template(source);
    this.#speaksOfTools = speaksOfTools(source);
  }

  /** Whether the template has a word, such as the name of a variable. */
  mentions(word: string): boolean {
    return this.#source.includes(word);
  }

  /**
   * @param tools that the model may call, described by the template, or in a fixed form if the template has no tools
   * @param variables further ones, such as enable_thinking; the usual ones win
   * @throws ChatTemplateError if the template rejects the messages, for instance roles that do not alternate
   */
  render(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    tools: readonly ChatTool[] = [],
    variables: TemplateVariables = {},
  ): string {
    try {
      const told = this.#speaksOfTools
        ? { messages, ...(tools.length > 0 ? { tools } : {}) }
        : { messages: withoutTools(messages, tools) };
      const usual = { ...told, add_generation_prompt: addGenerationPrompt, ...this.#specials };
      const scope = new Scope();
      for (const [name, value] of Object.entries({ ...globals(), ...variables, ...usual })) scope.set(name, value);
      return String(new BoundedInterpreter(scope).run(this.#template.parsed).value);
    } catch (error) {
      throw new ChatTemplateError(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * Renders messages whose last one stays open, so that an answer continues it. A mark finds its end: templates may
   * strip spaces, and the content may occur earlier.
   * @throws ChatTemplateError also if the template leaves out the content of the last message
   */
  renderOpen(
    messages: readonly ChatMessage[],
    tools: readonly ChatTool[] = [],
    variables: TemplateVariables = {},
  ): string {
    const mark = randomUUID();
    const last = messages.length - 1;
    const marked = messages.map((each, index) => (index === last ? { ...each, content: each.content + mark } : each));
    const text = this.render(marked, false, tools, variables);
    const end = text.lastIndexOf(mark);
    if (end < 0) throw new ChatTemplateError('the template leaves out the content of the last message');
    return text.slice(0, end);
  }
}
