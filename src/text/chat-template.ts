/** Renders chat messages as one prompt text, by the model's own Jinja template. */
import { Template } from '@huggingface/jinja';
import { speaksOfTools, withoutTools, type ChatTool, type ChatToolCall } from './tool-form.js';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  /** Calls of an assistant message; not empty. */
  readonly tool_calls?: readonly ChatToolCall[];
  /** In a tool message: the call that this result answers. */
  readonly tool_call_id?: string;
}

/** The template rejected the messages with `raise_exception`; the message is for the client. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

/** A chat template, parsed once. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #speaksOfTools: boolean;
  readonly #specials: Readonly<Record<string, string>>;

  /** @param specials texts of the special tokens that templates use (bos_token, eos_token) */
  constructor(source: string, specials: Readonly<Record<string, string>>) {
    this.#specials = specials;
    this.#template = new Template(source);
    this.#speaksOfTools = speaksOfTools(source);
  }

  /**
   * @param tools that the model may call, described by the template, or in a fixed form if the template has no tools
   * @throws ChatTemplateError if the template rejects the messages, for instance roles that do not alternate
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, tools: readonly ChatTool[] = []): string {
    try {
      const told = this.#speaksOfTools
        ? { messages, ...(tools.length > 0 ? { tools } : {}) }
        : { messages: withoutTools(messages, tools) };
      return this.#template.render({ ...told, add_generation_prompt: addGenerationPrompt, ...this.#specials });
    } catch (error) {
      throw new ChatTemplateError(error instanceof Error ? error.message : String(error));
    }
  }
}
