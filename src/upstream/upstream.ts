/** A model that runs elsewhere: its address, its key and its names. Must not know: connections, HTTP frameworks. */

/** A server with the API of OpenAI. */
export interface Upstream {
  /** The model's name here, which callers use. */
  readonly name: string;
  /** The model's name there. */
  readonly model: string;
  /** The base of the API, such as https://api.example.com/v1, without a slash at the end. */
  readonly url: URL;
  /** Null: the server takes requests without a key. */
  readonly key: string | null;
  /** The header that carries the rest of a budget, in lower case. */
  readonly deadlineHeader: string;
}

/** The options that describe an upstream. */
export interface UpstreamOptions {
  readonly upstream: string | null;
  readonly upstreamModel: string | null;
  readonly upstreamKeyEnv: string | null;
  readonly upstreamDeadlineHeader: string;
}

/**
 * @param localNames of the local model, which keep their meaning
 * @param env holds the key
 * @param fault makes the error of a wrong option
 * @returns null without an upstream
 */
export function upstreamOf(
  options: UpstreamOptions,
  localNames: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  fault: (message: string) => Error,
): Upstream | null {
  const { upstream: url, upstreamModel: name, upstreamKeyEnv: variable } = options;
  if (url === null && name === null && variable === null) return null;
  if (url === null) throw fault('--upstream must be set beside --upstream-model and --upstream-key-env');
  if (name === null) throw fault('--upstream-model must name the model of --upstream');
  if (localNames.some((local) => local === name || name.startsWith(`${local}:`))) {
    throw fault(`--upstream-model must differ from the names of the local model, got "${name}"`);
  }
  const key = variable === null ? null : env[variable];
  if (key === undefined || key === '') {
    throw fault(`--upstream-key-env must name a variable that holds a key, got "${variable}"`);
  }
  return { name, model: name, url: new URL(url), key, deadlineHeader: options.upstreamDeadlineHeader.toLowerCase() };
}

/** The value of the deadline header: milliseconds if its name ends so, else seconds. */
export function restOfBudget(header: string, ms: number): string {
  return header.endsWith('-ms') ? String(Math.floor(ms)) : (Math.floor(ms) / 1000).toFixed(3);
}
