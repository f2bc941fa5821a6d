/** Any OpenAI-compatible server over HTTP. This folder knows the public API alone, and no part of Sortie's server. */
import { connectionError, errorOf, RemoteError } from './server-error.js';

export interface RemoteServer {
  /** The URL before `/chat/completions`, without a slash at its end. */
  readonly baseUrl: string;
  readonly apiKey: string | null;
}

/**
 * @param url a base URL of OpenAI's clients, such as http://host:8000/v1; a URL without a path gets `/v1`
 * @throws Error that names the rule and the value
 */
export function serverAt(url: string, apiKey: string | null): RemoteServer {
  const whole = /^[a-z][a-z\d+.-]*:\/\//i.test(url) ? url : `http://${url}`;
  const parsed = URL.canParse(whole) ? new URL(whole) : null;
  if (parsed === null || !['http:', 'https:'].includes(parsed.protocol) || parsed.search + parsed.hash !== '')
    throw new Error(`the URL must be an http or https URL such as http://localhost:8080, got "${url}"`);
  const path = parsed.pathname.replace(/\/+$/, '');
  return { baseUrl: `${parsed.origin}${path === '' ? '/v1' : path}`, apiKey };
}

/** Headers of each request. @param isBody whether the request has a JSON body */
export function headersOf({ apiKey }: RemoteServer, isBody: boolean): Record<string, string> {
  return {
    ...(isBody ? { 'content-type': 'application/json' } : {}),
    ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }),
  };
}

interface ModelList {
  readonly data?: readonly { readonly id?: unknown; readonly owned_by?: unknown }[];
}

const LIST_LIMIT_MS = 10_000;

/** The models of `GET /models`, in its order. @throws RemoteError */
async function listModels(server: RemoteServer): Promise<Chosen[]> {
  const url = `${server.baseUrl}/models`;
  const signal = AbortSignal.timeout(LIST_LIMIT_MS);
  try {
    const response = await fetch(url, { headers: headersOf(server, false), signal });
    if (!response.ok) throw await errorOf(response);
    const { data = [] } = (await response.json()) as ModelList;
    return data.flatMap(({ id: model, owned_by: owner }) =>
      typeof model === 'string' ? [{ model, isSortie: owner === 'sortie' }] : [],
    );
  } catch (error) {
    throw connectionError(error, url, signal);
  }
}

export interface Chosen {
  readonly model: string;
  readonly isSortie: boolean;
}

/**
 * The model to ask: the one stated, or the first of the server's list.
 * @param stated model; a server without a list can still be asked for it
 * @throws RemoteError if the server is out of reach, or if no model is stated and none is listed
 */
export async function chooseModel(server: RemoteServer, stated: string | null): Promise<Chosen> {
  let models: Chosen[] = [];
  try {
    models = await listModels(server);
  } catch (error) {
    const isUnlisted = error instanceof RemoteError && /^(404|405)\b/.test(error.kind);
    if (!isUnlisted || stated === null) throw error;
  }
  const model = stated ?? models[0]?.model;
  if (model === undefined) throw new RemoteError('no model', 'the server lists no model; name one with --model');
  return { model, isSortie: models.some(({ isSortie }) => isSortie) };
}
