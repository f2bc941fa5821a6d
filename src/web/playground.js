// The playground: it calls the public API as any client does and relies on openapi.json alone.
const $ = (id) => document.getElementById(id);
let running = null;

function headers() {
  return {
    'content-type': 'application/json',
    ...($('key').value ? { authorization: `Bearer ${$('key').value}` } : {}),
  };
}

async function fillModels() {
  const response = await fetch('v1/models', { headers: headers() });
  if (!response.ok) return;
  const { data } = await response.json();
  const option = ({ id, exit_layer: layer }) => new Option(layer === null ? 'by budget' : `layer ${layer}`, id);
  $('model').replaceChildren(...data.map(option));
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

function showReport(report) {
  const exits = Object.entries(report.exit_layers).map(([layer, tokens]) => `${tokens} at layer ${layer}`);
  const met = { true: ' (met)', false: ' (missed)', null: '' }[report.met];
  const rows = [
    ['Tokens', exits.join(', ')],
    ['Predicted', `${Math.round(report.predicted_ms)} ms`],
    ['Took', `${Math.round(report.actual_ms)} ms${met}`],
    ['First token', report.ttft_ms === null ? 'none' : `${Math.round(report.ttft_ms)} ms`],
  ];
  $('report').replaceChildren(
    ...rows.flatMap(([term, text]) => {
      const pair = [document.createElement('dt'), document.createElement('dd')];
      pair[0].textContent = term;
      pair[1].textContent = text;
      return pair;
    }),
  );
}

/** Shows an error and keeps the text that has arrived. */
function fail(message) {
  $('error').textContent = message;
}

/** The message of an error response. A proxy's error may not be JSON. */
async function messageOf(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? `HTTP ${response.status}`;
}

/** @throws Error that says why there is no answer, or only a part of it */
async function answer(signal) {
  // The list is still empty if the page was opened while the model loaded or before a key was entered.
  if ($('model').options.length === 0) await fillModels();
  const budget = Number($('budget').value);
  const response = await fetch('v1/chat/completions', {
    method: 'POST',
    signal,
    headers: { ...headers(), ...(budget > 0 ? { 'x-latency-budget-ms': String(budget) } : {}) },
    body: JSON.stringify({
      model: $('model').value || null,
      messages: [{ role: 'user', content: $('prompt').value }],
      max_tokens: Number($('tokens').value),
      temperature: 0,
      stream: true,
    }),
  });
  if (!response.ok) throw new Error(await messageOf(response));
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    $('answer').textContent += event.choices[0]?.delta.content ?? '';
    if (event.sortie) showReport(event.sortie);
  }
}

/** Runs one answer at a time: a new request aborts the previous one. */
async function send() {
  running?.abort();
  const own = new AbortController();
  running = own;
  $('answer').textContent = '';
  $('error').textContent = '';
  $('report').replaceChildren();
  $('stop').disabled = false;
  try {
    await answer(own.signal);
  } catch (error) {
    if (!own.signal.aborted) fail(error.message);
  }
  if (running === own) $('stop').disabled = true;
}

$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  void send();
});
$('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('form').requestSubmit();
});
$('stop').addEventListener('click', () => running?.abort());
$('budget').addEventListener('input', () => {
  const budget = Number($('budget').value);
  $('budget-text').textContent = budget === 0 ? 'none' : `${budget} ms`;
});
const list = () => fillModels().catch((error) => fail(error.message));
$('key').addEventListener('change', list);
await list();
