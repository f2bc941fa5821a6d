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

/** The response of a POST, or of a GET without a body. @throws RequestError; a proxy's error may not be JSON */
async function call(path, body, signal) {
  const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  const response = await fetch(path, { ...sent, headers: headers(), signal });
  if (response.ok) return response;
  const { error } = (await response.json().catch(() => null)) ?? {};
  const { message = `HTTP ${response.status}`, code = null } = error ?? {};
  throw new RequestError(message, { code, status: response.status });
}

const getJson = async (path) => (await call(path)).json();

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
  return { model: props.model, exits, layers, unit, device: props.device, upstreams };
}

/** How many times their time at the start the steps take; 1 where the metrics do not say, or another port has them. */
export async function loadSlowdown() {
  const text = await call('metrics').then(
    (response) => response.text(),
    () => '',
  );
  const ratio = Number(/^sortie_engine_slowdown_ratio(?:\{.*\})? (\S+)/m.exec(text)?.[1]);
  // The series is 0 until the first step.
  return ratio > 0 ? ratio : 1;
}

/** Yields the JSON of each event. @throws RequestError of an error event, Error of a stream without its last event */
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
      if (!block.startsWith('data: {')) continue;
      const event = JSON.parse(block.slice(6));
      if (event.error) throw new RequestError(event.error.message, event.error);
      yield event;
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
    const response = await call('v1/chat/completions', { ...body, sortie: dry }, signal);
    return (await response.json()).sortie ?? null;
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
 * Streams a chat completion of an upstream model and yields its parts: `text`, the `finish` reason or null, and in the
 * last part the `report`, null without a budget.
 * @param onOpen gets the headers that say whether the answer has a net: its state, and the reason
 * @throws RequestError
 */
export async function* streamUpstream(body, { signal, onOpen }) {
  const response = await call('v1/chat/completions', { ...body, stream: true }, signal);
  onOpen(response.headers.get('x-sortie-net'), response.headers.get('x-sortie-net-reason'));
  for await (const event of events(response)) {
    const choice = event.choices?.[0];
    const report = event.sortie?.source === undefined ? null : event.sortie;
    yield { text: choice?.delta?.content ?? '', finish: choice?.finish_reason ?? null, report };
  }
}

/**
 * Streams a chat completion and yields its parts:
 * - `text`, `reasoning`, and the `finish` reason or null;
 * - `exit`, the layer that emitted the text, or null if unknown;
 * - `tokens` so far, and in the last part the `report`.
 *
 * @param budget total in ms; null states none
 * @param sortie further fields of Sortie
 * @throws RequestError
 */
export async function* streamChat({ budget, onMiss = 'land', sortie = {}, ...body }, signal) {
  const streamed = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const fields = { ...sortie, ...sortieOf(budget, onMiss) };
  const response = await call('v1/chat/completions', { ...body, ...streamed, sortie: fields }, signal);
  const exitOf = exitReader();
  let finish = null;
  for await (const event of events(response)) {
    const choice = event.choices[0];
    // The last event has the report and no choice.
    finish = choice === undefined ? finish : choice.finish_reason;
    yield {
      text: choice?.delta?.content ?? '',
      reasoning: choice?.delta?.reasoning_content ?? '',
      exit: exitOf(event.sortie?.exit_layers),
      finish,
      tokens: event.usage?.completion_tokens ?? 0,
      report: event.sortie?.plan === undefined ? null : event.sortie,
    };
  }
}
