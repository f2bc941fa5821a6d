/** The net view: one question to an upstream model, asked by a plain client and through Sortie with a budget. */
import { streamUpstream } from './api.js';
import { BudgetSlider } from './budget.js';
import { $, announce, duration, element, onSubmit, showError, submitOnEnter } from './dom.js';

/** The source of an answer in words (`sortie.source`). */
const SOURCES = {
  upstream: 'the upstream',
  net: 'the local model',
};

/** Why the net began (`sortie.net.trigger`) or an answer landed (`sortie.landed.trigger`), in words. */
const TRIGGERS = {
  latest_start: 'no sentence by the latest start',
  upstream_failed: 'the upstream failed',
  status: 'the status of the upstream',
  breaker: 'the upstream failed several times',
  expected: 'the upstream is often too late',
  deadline: 'the deadline',
  budget: 'the local model, to keep the budget',
};

const words = (table, name) => table[name] ?? name;

/** One client's side: its answer as it comes, its time, and how it ended. */
class Side {
  #text = element('div', { class: 'column-text' });
  #time = element('strong', {}, '–');
  #end = element('p', { class: 'column-note sub' });
  #facts = element('dl', { class: 'facts' });

  constructor(id, title, sub) {
    const head = [element('h3', { id }, title), element('p', { class: 'sub' }, sub)];
    this.root = element(
      'article',
      { class: 'column card', 'aria-labelledby': id },
      element('div', { class: 'stack' }, ...head),
      this.#text,
      element('p', { class: 'speed sub' }, this.#time),
      this.#end,
      this.#facts,
    );
  }

  /**
   * Streams the answer, and shows its end.
   * @param limitMs time after which the client gives up; null: it waits for the end
   */
  async run(body, { budget, limitMs, stop }) {
    for (const part of [this.#text, this.#end]) part.textContent = '';
    this.#facts.replaceChildren();
    this.root.classList.add('running');
    const startedAt = performance.now();
    const time = () => performance.now() - startedAt;
    const clock = setInterval(() => (this.#time.textContent = duration(time())), 50);
    const signal = limitMs === null ? stop : AbortSignal.any([stop, AbortSignal.timeout(limitMs)]);
    let finish = null;
    let report = null;
    try {
      const onOpen = (state, reason) => this.#fact('Net', reason === null ? state : `${state}, ${reason}`);
      for await (const part of streamUpstream(body, { signal, onOpen })) {
        this.#text.append(part.text);
        finish ??= part.finish;
        report ??= part.report;
      }
      // The server counts from the arrival to the last byte, without the way.
      const isLate = budget !== null && (report?.actual_ms ?? time()) > budget;
      const isWhole = finish !== null && report?.outcome !== 'cut';
      const how = isWhole ? 'An answer with an end' : finish === null ? 'It has no end' : 'It ends in mid-text';
      const pace = budget === null ? '' : isLate ? ', late' : `, within ${duration(budget)}`;
      this.#ended(how + pace, time(), isWhole && !isLate);
    } catch (error) {
      const reason = stop.aborted ? 'Stopped.' : signal.aborted ? 'It gave up: no end by the deadline.' : error.message;
      this.#ended(reason, time(), false);
    } finally {
      clearInterval(clock);
      this.root.classList.remove('running');
    }
    if (report !== null) this.#tell(report);
  }

  #ended(how, ms, isGood) {
    this.#time.textContent = duration(ms);
    this.#end.textContent = how;
    this.#end.className = `column-note sub ${isGood ? 'met' : 'missed'}`;
    announce(`${this.root.querySelector('h3').textContent}: ${this.#end.textContent} after ${duration(ms)}.`);
  }

  #fact(name, value) {
    if (value !== null) this.#facts.append(element('dt', {}, name), element('dd', {}, value));
  }

  #tell({ source, outcome, plan, net, landed, upstream }) {
    const exit = plan?.exit_layer;
    this.#fact('Text of', `${words(SOURCES, source)}, ${outcome}` + (exit === undefined ? '' : `, exit ${exit}`));
    if (landed !== undefined) this.#fact('Ended by', words(TRIGGERS, landed.trigger));
    if (net !== undefined) {
      const when = `after ${duration(net.started_ms)}: ${words(TRIGGERS, net.trigger)}`;
      this.#fact('The net began', `${when}, ${duration(net.lead_ms)} in front of the deadline`);
    }
    const first = upstream.ttft_ms === undefined ? 'no text' : `first text after ${duration(upstream.ttft_ms)}`;
    this.#fact(
      'The upstream',
      `${upstream.status === undefined ? 'no response' : `status ${upstream.status}`}, ${first}`,
    );
  }
}

export function openNet() {
  let running = null;
  const parts = { input: $('net-budget'), output: $('net-budget-text'), reason: $('net-budget-reason') };
  const slider = new BudgetSlider({ ...parts, onChange: () => undefined });
  const plain = new Side('net-plain', 'A plain client', 'it gives up at its deadline');
  const netted = new Side('net-told', 'Through Sortie', 'the budget in its request');

  /** A new question stops the one in progress. */
  const send = async () => {
    running?.abort();
    const own = new AbortController();
    running = own;
    showError('');
    const budget = slider.value;
    const fault = $('net-fault').value;
    const body = {
      model: $('net-model').value,
      messages: [{ role: 'user', content: $('net-prompt').value }],
      max_tokens: 120,
      ...(fault !== '' && { fault }),
    };
    $('net-stop').hidden = false;
    const stop = own.signal;
    const told = budget === null ? {} : { sortie: { latency_budget_ms: budget } };
    await Promise.all([
      plain.run({ ...body, sortie: { net: 'off' } }, { budget, limitMs: budget, stop }),
      netted.run({ ...body, ...told }, { budget, limitMs: null, stop }),
    ]);
    if (running === own) $('net-stop').hidden = true;
  };

  onSubmit('net', { send, stop: () => running?.abort() });
  submitOnEnter($('net-prompt'));

  return {
    /** Offers the upstream models of the server. Without one the view has no tab. */
    show({ upstreams }) {
      $('tab-net').hidden = upstreams.length === 0;
      if (upstreams.length > 0) $('net-sides').replaceChildren(plain.root, netted.root);
      $('net-model').replaceChildren(...upstreams.map((name) => new Option(name, name)));
    },
  };
}
