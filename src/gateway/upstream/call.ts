/** A request to an upstream model as this folder gets it, and the ways to answer it. Must not know: HTTP frameworks. */
import type { ApiRequest } from '../api/context.js';
import type { ApiError } from '../api/errors.js';

/** A body that no schema has checked: the upstream knows its fields. */
export type OpenBody = Readonly<Record<string, unknown>>;

/** The response to a client that asked for a stream. */
export interface ClientStream {
  /** Sends text of the wire behind the status line. */
  write(frame: string): void;
  /** Comments come from the first second of silence on. The status line of a silent stream goes out with the first. */
  keepOpen(): void;
  /** Resolves once the client has read on, or is gone. Null while it keeps up. */
  drained(): Promise<void> | null;
  /**
   * Ends with a plain response, unless the status line is sent.
   * @returns whether it did
   */
  respond(answer: PlainAnswer): boolean;
  /** As `respond`, in the form of errors. */
  reject(error: ApiError): boolean;
  /** @param last the data of the last event; null for none */
  end(last: string | null): void;
}

export interface PlainAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface UpstreamCall {
  readonly path: '/chat/completions' | '/completions';
  /** The model's name here, which the answer has. */
  readonly model: string;
  readonly request: ApiRequest<OpenBody>;
  /** Sets a header of the response, unless its status line is out. */
  header(name: string, value: string): void;
  /** Takes the response over. Comments keep a silent stream open from then on. @param headers of the status line */
  open(headers: Readonly<Record<string, string>>): ClientStream;
  /** Calls the listener once the last byte of the response is out. It never does for a client that has left. */
  onSent(listener: () => void): void;
  /** Headers of the trace, for the upstream; absent: none. */
  readonly traceHeaders?: Readonly<Record<string, string>>;
}

export const isStreamed = ({ request }: UpstreamCall): boolean => request.body.stream === true;

/** The id of an answer, in OpenAI's form. */
export const answerId = ({ path, request }: UpstreamCall): string =>
  `${path === '/completions' ? 'cmpl' : 'chatcmpl'}-${request.id.replace(/[^\w-]/g, '')}`;
