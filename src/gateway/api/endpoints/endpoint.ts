/**
 * An endpoint: its path, its text in openapi.json, its schemas, and its way from a body to an answer. Each file or
 * folder here has one, and has its name on the wire. index.ts lists them.
 *
 * Must not know: HTTP frameworks.
 */
import type { TSchema } from '../../../util/schema.js';
import type { ApiContext, ApiRequest } from '../context.js';
import type { Answering } from '../generation/serve.js';
import type { Translation } from './chat-completions/chat-body.js';

/** The parts that all endpoints have. */
interface Described {
  /** A part of the path that begins with a colon is a parameter. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly tag: 'OpenAI' | 'Anthropic' | 'Sortie' | 'Tokens';
  /** The clients whose form of errors it has. Absent: OpenAI's. */
  readonly dialect?: 'anthropic';
  /** Schema of the answer. */
  readonly answer: TSchema;
}

/** How requests to a model that runs elsewhere become a chat, and its errors those of the endpoint. */
export interface Elsewhere<Body = object> {
  /** @throws ApiError invalid_value or unsupported_parameter */
  translate(body: Body, mostTokens: number | null): Translation;
  /** The body of an error of the upstream. @param text as the upstream wrote it */
  errorBody(status: number, text: string, requestId: string): string;
}

/** An endpoint that generates. It takes POST, and answers in one body or as a stream. */
export interface GeneratingEndpoint<Body> extends Described, Answering<Body> {
  /** OpenTelemetry's name of the operation. */
  readonly operation: 'chat' | 'text_completion';
  readonly body: TSchema;
  /** Absent: a body for another model passes as it is. */
  readonly elsewhere?: Elsewhere<Body>;
  /** Completes "With stream: true, server-sent events ...". */
  readonly events: string;
}

/** The request to an endpoint that answers immediately. */
export interface PlainRequest<Body = unknown> extends Pick<ApiRequest<Body>, 'body' | 'caller' | 'signal'> {
  /** Parameters of the path. */
  readonly params: Readonly<Record<string, string>>;
  /** Whether the server shuts down. */
  readonly isDraining: boolean;
}

/** An endpoint that answers immediately. With a body it takes POST, else GET. */
export interface PlainEndpoint<Body = unknown> extends Described {
  readonly body?: TSchema;
  /** Schema of the path's parameters. */
  readonly params?: TSchema;
  /** Meaning of the answer. */
  readonly meaning: string;
  /** Whether its work grows with a text: it counts as a request of its key, and tenants share it. */
  readonly isShared?: true;
  /** A second path, which openapi.json leaves out. */
  readonly hiddenPath?: string;
  /** @throws ApiError */
  serve(context: ApiContext, request: PlainRequest<Body>): object | Promise<object>;
}

/** Gives an endpoint the type of its body. */
export const plainEndpoint = <Body>(endpoint: PlainEndpoint<Body>): PlainEndpoint<Body> => endpoint;
