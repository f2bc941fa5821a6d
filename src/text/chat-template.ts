/**
 * Chat messages to one prompt text, by the model's own Jinja template.
 *
 * Knows: roles, tools and the template. Must not know: requests, token ids.
 */
import { Template } from '@huggingface/jinja';
import { speaksOfTools, withoutTools, type ChatTool, type ChatToolCall } from './tool-form.js';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  /** Of an assistant; not empty. */
  readonly tool_calls?: readonly ChatToolCall[];
  /** Of a tool: which call this is the result of. */
  readonly tool_call_id?: string;
}

/** The template refused the messages: its text is meant for the caller (`raise_exception` in templates). */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

/** A chat template, parsed once. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #speaksOfTools: boolean;

  /** @param specials texts of the special tokens that templates name (bos_token, eos_token) */
  constructor(
    source: string,
    private readonly specials: Readonly<Record<string, string>>,
  ) {
    this.#template = new Template(source);
    this.#speaksOfTools = speaksOfTools(source);
  }

  /**
   * @param tools that the model may call; described by the template, or in a fixed form where it does not know them
   * @throws ChatTemplateError when the template refuses, for instance roles that don't alternate
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, tools: readonly ChatTool[] = []): string {
    try {
      const told = this.#speaksOfTools
        ? { messages, ...(tools.length > 0 ? { tools } : {}) }
        : { messages: withoutTools(messages, tools) };
      return this.#template.render({ ...told, add_generation_prompt: addGenerationPrompt, ...this.specials });
    } catch (error) {
      throw new ChatTemplateError(error instanceof Error ? error.message : String(error));
    }
  }
}
