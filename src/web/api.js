/** The public API as any client calls it: models, exits, and streamed answers. It relies on openapi.json alone. */

/** A response that is not 2xx, or an error event of a stream. `code` is the API's, or null. */
export class RequestError extends Error {
  constructor(message, { code = null, status = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

let apiKey = '';

/** Sets the key of every later request; an empty text means none. */
export function useKey(key) {
  apiKey = key;
}

const headers = () => ({
  'content-type': 'application/json',
  ...(apiKey === '' ? {} : { authorization: `Bearer ${apiKey}` }),
});

/** The error of a response. A proxy's error may not be JSON. */
async function errorOf(response) {
  const body = await response.json().catch(() => null);
  const { message = `HTTP ${response.status}`, code = null } = body?.error ?? {};
  return new RequestError(message, { code, status: response.status });
}

async function getJson(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await errorOf(response);
  return response.json();
}

/**
 * The model, the exits that this client may use, shallowest first, and the names of upstream models.
 * @throws RequestError with the code `loading` while the model loads
 */
export async function loadServer() {
  const [{ data }, props] = await Promise.all([getJson('v1/models'), getJson('props')]);
  const pinned = data.filter(({ exit_layer: layer }) => layer !== null);
  const exits = pinned.map(({ id, exit_layer: layer }) => ({
    layer,
    model: id,
    agreement: props.exits?.find((exit) => exit.layer === layer)?.agreement ?? null,
  }));
  const loops = props.architecture?.loops?.count;
  // Exits of a looped model count loops.
  const unit = loops === undefined ? 'layer' : 'loop';
  const layers = loops ?? props.architecture?.layers ?? Math.max(...exits.map(({ layer }) => layer));
  const upstreams = data.filter(({ owned_by: owner }) => owner === 'upstream').map(({ id }) => id);
  const maxChoices = props.limits?.max_choices ?? 1;
  return { model: props.model, exits, layers, unit, device: props.device, maxChoices, upstreams };
}

/** The text of /metrics, or null if another port serves it. */
export async function loadMetrics() {
  const response = await fetch('metrics');
  if (response.status === 404) return null;
  if (!response.ok) throw await errorOf(response);
  return response.text();
}

/** Yields the JSON of each event. @throws Error if the stream ends before its own last event */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error('The connection was closed mid-stream.');
    const blocks = (text + value).split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      if (block === 'data: [DONE]') return;
      if (block.startsWith('data: {')) yield JSON.parse(block.slice(6));
    }
  }
}

/**
 * Asks for the plan of a chat completion, which the server does not run.
 * @param budget total in ms; null states none
 * @returns the report of the answer; null if the server cannot tell
 */
export async function predictPlan({ budget, onMiss = 'land', ...body }, signal) {
  try {
    const dry = { ...sortieOf(budget, onMiss), dry_run: true };
    return (await postJson('v1/chat/completions', { ...body, sortie: dry }, signal)).sortie ?? null;
  } catch {
    return null;
  }
}

/** The fields that state a budget. */
const sortieOf = (budget, onMiss) => (budget === null ? {} : { latency_budget_ms: budget, budget_on_miss: onMiss });

/** Finds the exit of each chunk from the running totals of tokens by exit. */
function exitReader() {
  let known = {};
  return (totals) => {
    if (totals === undefined) return null;
    const grown = Object.keys(totals).filter((layer) => totals[layer] > (known[layer] ?? 0));
    known = totals;
    return grown.length === 0 ? null : Number(grown.at(-1));
  };
}

/**
 * Streams chat completions and yields each new part of a choice:
 * - `index`, `text`, and the `finish` reason or null;
 * - `exit`, the layer that emitted the text, or null if unknown;
 * - `tokens` and `exits` (tokens by exit) of all choices so far;
 * - in the last part the `report`.
 *
 * @param budget total in ms; null states none
 * @param sortie further fields of Sortie
 * @throws RequestError
 */
export async function* streamChat({ budget, onMiss = 'land', sortie = {}, ...body }, signal) {
  const fields = { ...sortie, ...sortieOf(budget, onMiss) };
  yield* stream('v1/chat/completions', { ...body, sortie: fields }, signal);
}

/**
 * Streams a chat completion of an upstream model and yields its parts: `text`, the `finish` reason or null, and in the
 * last part the `report`, null without a budget.
 * @param onOpen gets the headers that say whether the answer has a net: its state, and the reason
 * @throws RequestError
 */
export async function* streamUpstream(body, { signal, onOpen }) {
  const response = await post('v1/chat/completions', { ...body, stream: true }, signal);
  onOpen(response.headers.get('x-sortie-net'), response.headers.get('x-sortie-net-reason'));
  for await (const event of events(response)) {
    if (event.error) throw new RequestError(event.error.message, event.error);
    const choice = event.choices?.[0];
    const report = event.sortie?.source === undefined ? null : event.sortie;
    yield { text: choice?.delta?.content ?? '', finish: choice?.finish_reason ?? null, report };
  }
}

async function post(path, body, signal) {
  const response = await fetch(path, { method: 'POST', signal, headers: headers(), body: JSON.stringify(body) });
  if (!response.ok) throw await errorOf(response);
  return response;
}

const postJson = async (...request) => (await post(...request)).json();

async function* stream(path, body, signal) {
  const streamed = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const response = await post(path, { ...body, ...streamed }, signal);
  const exitOf = exitReader();
  let finish = null;
  for await (const event of events(response)) {
    if (event.error) throw new RequestError(event.error.message, event.error);
    const choice = event.choices[0];
    // The last event has the report and no choice.
    finish = choice === undefined ? finish : choice.finish_reason;
    yield {
      index: choice?.index ?? 0,
      text: choice?.delta?.content ?? choice?.text ?? '',
      reasoning: choice?.delta?.reasoning_content ?? '',
      exit: exitOf(event.sortie?.exit_layers),
      exits: event.sortie?.exit_layers ?? {},
      finish,
      tokens: event.usage?.completion_tokens ?? 0,
      report: event.sortie?.plan === undefined ? null : event.sortie,
    };
  }
}
