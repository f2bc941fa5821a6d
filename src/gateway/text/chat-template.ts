/** Renders chat messages as one prompt text, by the model's own Jinja template. */
import { randomUUID } from 'node:crypto';
import { BoundedTemplate } from './bounded-template.js';
import { thoughtTags, type ThoughtTags } from './thoughts.js';
import { speaksOfTools, withoutTools, type ChatTool, type ChatToolCall } from './tool-form.js';

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
  readonly #template: BoundedTemplate;
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
    this.#template = new BoundedTemplate(source);
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
      return this.#template.render({ ...variables, ...usual });
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
