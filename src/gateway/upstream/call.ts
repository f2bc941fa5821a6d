/** A request to an upstream model as this folder gets it, and the ways to answer it. Must not know: HTTP frameworks. */
import type { ApiRequest, EventStream } from '../api/context.js';
import type { Answering } from '../api/generation/serve.js';
import type { Outcome } from '../../protocol/outcome.js';
import type { Incoming } from './sse-events.js';

/** A body that no schema has checked: the upstream knows its fields. */
export type OpenBody = Readonly<Record<string, unknown>>;

/** The response to a client that asked for a stream. */
export interface ClientStream extends EventStream {
  /** Sends events and comments behind the status line, in one write. */
  pass(events: readonly Incoming[]): void;
  /** Comments come from the first second of silence on. The status line of a silent stream goes out with the first. */
  keepOpen(): void;
  /**
   * Ends with a plain response, unless the status line is sent.
   * @returns whether it did
   */
  respond(answer: PlainAnswer): boolean;
}

export interface PlainAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** How the answer is written: as the endpoint of the client writes it. */
export interface Writing extends Pick<Answering<object>, 'form' | 'terminator'> {
  readonly request: Pick<ApiRequest<object>, 'id' | 'body'>;
  /** The body of an error of the upstream, in the form of another API; null: chunks and errors may pass unchanged. */
  readonly errorBody: ((status: number, text: string) => string) | null;
}

export interface UpstreamCall {
  readonly path: '/chat/completions' | '/completions';
  /** The model's name here, which the answer has. */
  readonly model: string;
  readonly request: ApiRequest<OpenBody>;
  readonly writing: Writing;
  /** Sets a header of the response, unless its status line is out. */
  header(name: string, value: string): void;
  /** Takes the response over. Comments keep a silent stream open from then on. */
  open(): ClientStream;
  /** Calls the listener once the last byte of the response is out. It never does for a client that has left. */
  onSent(listener: () => void): void;
}

/** Whether the client gets the counts of tokens: always in a whole answer, and in a stream if it asks for them. */
export function asksUsage({ request }: UpstreamCall): boolean {
  const { stream, stream_options: options } = request.body;
  const { include_usage: asked } = (options ?? {}) as { readonly include_usage?: unknown };
  return stream !== true || asked === true;
}

export const isStreamed = ({ request }: UpstreamCall): boolean => request.body.stream === true;

/** The id of an answer, without the prefix of its API. */
export const plainId = ({ request }: UpstreamCall): string => request.id.replace(/[^\w-]/g, '');

/** The id of an answer, in OpenAI's form. */
export const answerId = (call: UpstreamCall): string =>
  `${call.path === '/completions' ? 'cmpl' : 'chatcmpl'}-${plainId(call)}`;

export interface AnswerForm {
  /** Answers to all prompts. */
  readonly choices: number;
  /** Whether the answer can end at any sentence: JSON, scored tokens and several choices can't. */
  readonly mayLand: boolean;
  /** Whether a local answer goes out at its own end alone: a call, JSON and scored tokens are nothing without it. */
  readonly isWholeOnly: boolean;
  /** Whether this end may be a landing of each choice. */
  readonly isProse: boolean;
}

/** Prompts of a body: each has its own answers. Token ids are one prompt. */
export const promptsOf = ({ prompt }: OpenBody): number =>
  Array.isArray(prompt) && prompt.some((item) => typeof item !== 'number') ? prompt.length : 1;

/** @param names of the fields that state the answers to a prompt */
export function answersOf(body: OpenBody, names: readonly string[] = ['n']): number {
  const stated = names.map((name) => body[name]).filter((value): value is number => Number.isInteger(value));
  return promptsOf(body) * Math.max(1, ...stated);
}

export function formOf({ request: { body } }: { readonly request: Pick<ApiRequest<OpenBody>, 'body'> }): AnswerForm {
  const { response_format: format, logprobs, tools, tool_choice: choice } = body;
  const type = typeof format === 'object' && format !== null && 'type' in format ? format.type : 'text';
  const hasScores = logprobs !== undefined && logprobs !== null && logprobs !== false;
  const isText = type === 'text' && !hasScores && !isGuided(body);
  const isProse = isText && !(isList(tools) && choice !== 'none');
  const choices = answersOf(body);
  return { choices, isProse, mayLand: isText && choices === 1, isWholeOnly: !isProse || choices > 1 };
}

/** Whether a local answer of this outcome may go out. */
export const isEnd = (outcome: Outcome, { isWholeOnly, isProse }: AnswerForm): boolean =>
  !isWholeOnly || outcome === 'whole' || (isProse && outcome === 'landed');

export const isList = (value: unknown): boolean => Array.isArray(value) && value.length > 0;

/** Fields of vLLM, SGLang and llama.cpp that state a grammar. */
const GRAMMARS = /^(guided_\w+|structured_outputs|grammar|json_schema|regex|ebnf)$/;

/** Whether a field that few servers know states a grammar. */
export const isGuided = (body: OpenBody): boolean =>
  Object.keys(body).some((field) => GRAMMARS.test(field) && body[field] !== null);
