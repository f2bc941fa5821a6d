/** Requests of attackers and honest clients. */

export interface PostOptions {
  /** API key; null for a server without keys. */
  readonly key?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** Posts JSON. Throws as `fetch` does. */
export function post(
  url: string,
  body: object,
  { key = null, headers = {}, signal }: PostOptions = {},
): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(key !== null && { authorization: `Bearer ${key}` }),
      ...headers,
    },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
}

/** An error of a request with its cause. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? `${error.message} ${String(error.cause)}` : String(error);
}
