/** The playground: connects to the server, fills the views and switches between them. */
import { loadServer, useKey } from './api.js';
import { openChat } from './chat.js';
import { openCompare } from './compare.js';
import { defineScale, paint } from './depth.js';
import { $, announce, element, showError } from './dom.js';
import { openNet } from './net.js';

const RETRY_MS = 1500;
const VIEWS = ['compare', 'chat', 'net'];

const chat = openChat();
const compare = openCompare();
const net = openNet();

function showScale({ model, exits, layers, unit, device }) {
  defineScale(exits.map(({ layer }) => layer));
  const keys = exits.map(({ layer }) => paint(element('span', { class: 'key' }, String(layer)), layer));
  $('scale').replaceChildren(`exit after ${unit}`, ...keys);
  $('scale').setAttribute(
    'aria-label',
    `Colours of the exits after ${unit} ${exits.map(({ layer }) => layer).join(', ')}`,
  );
  $('served').textContent = `${model}, ${layers} ${unit}s, ${exits.length} exits, ${device}`;
}

/** Fills the views; waits while the model loads. A server with API keys needs one first. */
async function connect() {
  try {
    const server = await loadServer();
    showScale(server);
    for (const view of [compare, chat, net]) view.show(server);
    showError('');
    announce('The model is ready.');
  } catch (error) {
    if (error.status === 503) {
      $('served').textContent = 'The model is loading…';
      setTimeout(() => void connect(), RETRY_MS);
    } else if (error.status === 401) {
      $('served').textContent = 'This server asks for an API key.';
      showError('Settings has a field for the key.');
    } else {
      $('served').textContent = 'not connected';
      showError(error.message);
    }
  }
}

function select(view, { focus = false } = {}) {
  for (const each of VIEWS) {
    const tab = $(`tab-${each}`);
    tab.setAttribute('aria-selected', String(each === view));
    tab.tabIndex = each === view ? 0 : -1;
    $(each).hidden = each !== view;
  }
  if (focus) $(`tab-${view}`).focus();
  history.replaceState(null, '', `#/${view}`);
}

for (const view of VIEWS) {
  const tab = $(`tab-${view}`);
  tab.addEventListener('click', () => select(view));
  tab.addEventListener('keydown', ({ key }) => {
    const at = VIEWS.indexOf(view);
    const shown = VIEWS.filter((each) => !$(`tab-${each}`).hidden);
    const to = { ArrowRight: at + 1, ArrowLeft: at + shown.length - 1, Home: 0, End: shown.length - 1 }[key];
    if (to !== undefined) select(shown[to % shown.length], { focus: true });
  });
}

for (const dialog of document.querySelectorAll('dialog'))
  dialog.addEventListener('submit', (event) => {
    // The policy of the page forbids every form action.
    event.preventDefault();
    dialog.close();
  });
$('open-settings').addEventListener('click', () => $('settings').showModal());
let key = '';
$('settings').addEventListener('close', () => {
  if ($('key').value === key) return;
  key = $('key').value;
  useKey(key);
  void connect();
});

/** The view of the address. The hash begins with a slash: the name of a section would scroll to it. */
const selectAsked = () => {
  const asked = location.hash.slice(2);
  select(VIEWS.includes(asked) ? asked : VIEWS[0]);
};
addEventListener('hashchange', selectAsked);
selectAsked();
await connect();
