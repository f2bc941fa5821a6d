/**
 * Chat messages to one prompt text, by the model's own Jinja template.
 *
 * Knows: roles and the template. Must not know: requests, token ids.
 */
import { Template } from '@huggingface/jinja';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** The template refused the messages: its text is meant for the caller (`raise_exception` in templates). */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

/** A chat template, parsed once. */
export class ChatTemplate {
  readonly #template: Template;

  /** @param specials texts of the special tokens that templates name (bos_token, eos_token) */
  constructor(
    source: string,
    private readonly specials: Readonly<Record<string, string>>,
  ) {
    this.#template = new Template(source);
  }

  /** @throws ChatTemplateError when the template refuses, for instance roles that don't alternate. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    try {
      return this.#template.render({ messages, add_generation_prompt: addGenerationPrompt, ...this.specials });
    } catch (error) {
      throw new ChatTemplateError(error instanceof Error ? error.message : String(error));
    }
  }
}
