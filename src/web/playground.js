// The playground: the public API, called like any client would. Knows nothing that openapi.json does not say.
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

/** Yields the JSON of each event. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
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
  $('report').hidden = false;
}

function fail(message) {
  $('answer').className = 'error';
  $('answer').textContent = message;
}

async function send() {
  running?.abort();
  running = new AbortController();
  $('answer').className = '';
  $('answer').textContent = '';
  $('report').hidden = true;
  const budget = Number($('budget').value);
  const response = await fetch('v1/chat/completions', {
    method: 'POST',
    signal: running.signal,
    headers: { ...headers(), ...(budget > 0 ? { 'x-latency-budget-ms': String(budget) } : {}) },
    body: JSON.stringify({
      model: $('model').value || null,
      messages: [{ role: 'user', content: $('prompt').value }],
      max_tokens: Number($('tokens').value),
      temperature: 0,
      stream: true,
    }),
  });
  if (!response.ok) return fail((await response.json()).error.message);
  for await (const event of events(response)) {
    if (event.error) return fail(event.error.message);
    $('answer').textContent += event.choices[0]?.delta.content ?? '';
    if (event.sortie) showReport(event.sortie);
  }
}

$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  send().catch((error) => {
    if (error.name !== 'AbortError') fail(String(error.message));
  });
});
$('budget').addEventListener('input', () => {
  const budget = Number($('budget').value);
  $('budget-text').textContent = budget === 0 ? 'none' : `${budget} ms`;
});
$('key').addEventListener('change', fillModels);
await fillModels();
