/**
 * Load that the page makes: steady traffic, one answer at a time, and bursts with one request per budget. The router,
 * full depth and a shallow exit answer a burst in turn.
 */
import { streamChat } from './api.js';
import { meanDepth } from './metrics.js';
import { paint } from './depth.js';
import { $, announce, duration, element, onSubmit, showError } from './dom.js';

/** One per budget, so that no request reuses the prefix of another. */
const PROMPTS = [
  'Write a short story about a lighthouse.',
  'Explain how rain forms.',
  'Describe a walk through a forest.',
  'Describe the planets of the solar system.',
];
const STEADY_PROMPT = 'Give advice to a new cook.';
/** The steady budget is this many times the tightest one of a burst. */
const STEADY_FACTOR = 2;
const STEADY_CELLS = 12;

/** One answer: a cell whose strata are runs of tokens of one exit, the first at the bottom. */
class Cell {
  root = element('span', { class: 'cell' });
  exits = {};
  #fill = element('span', { class: 'fill' });
  #stratum = null;
  #height = 0;
  #exit = null;
  #tokens = 0;
  #longest;

  /** @param longest tokens that fill the cell */
  constructor(longest) {
    this.#longest = longest;
    this.root.append(this.#fill);
  }

  add(exit) {
    if (exit === null) return;
    if (exit !== this.#exit) {
      this.#stratum = paint(element('span', { class: 'stratum' }), exit);
      this.#fill.append(this.#stratum);
      this.#exit = exit;
      this.#height = 0;
    }
    this.#tokens += 1;
    this.#height += 1;
    this.exits[exit] = (this.exits[exit] ?? 0) + 1;
    this.#stratum.style.flexGrow = this.#height;
    this.#fill.style.blockSize = `${Math.min(1, this.#tokens / this.#longest) * 100}%`;
  }

  end(inTime) {
    this.root.classList.add(inTime ? 'kept' : 'late');
  }
}

/** The answers of one budget. */
class Row {
  root;
  inTime = 0;
  ended = 0;
  landed = 0;
  #budget;
  #isTold;
  #cells = [];
  #list = element('span', { class: 'cells', 'aria-hidden': 'true' });
  #summary = element('span', { class: 'row-summary' });

  /** @param isTold whether the server knows the budget */
  constructor(budget, { name = duration(budget), isTold = true } = {}) {
    this.#budget = budget;
    this.#isTold = isTold;
    const title = element('span', { class: 'row-budget' }, name);
    this.root = element('div', { class: 'burst-row', role: 'listitem' }, title, this.#list, this.#summary);
  }

  /** Adds empty cells. @param most the oldest cells over this number go */
  add(count, longest, most = count) {
    this.#cells.push(...Array.from({ length: count }, () => new Cell(longest)));
    this.#cells = this.#cells.slice(-most);
    this.#list.replaceChildren(...this.#cells.map(({ root }) => root));
  }

  /** Streams one request into the last `n` cells. */
  async run(request, signal) {
    const cells = this.#cells.slice(-request.n);
    const started = performance.now();
    const inTime = [];
    try {
      for await (const part of streamChat({ ...request, budget: this.#isTold ? this.#budget : null }, signal)) {
        cells[part.index]?.add(part.exit);
        if (part.finish !== null && part.report === null)
          inTime[part.index] = performance.now() - started <= this.#budget;
        // The last event has the outcomes of all answers of the request.
        if (part.report !== null)
          (part.report.outcomes ?? [part.report.outcome]).forEach((outcome, index) => {
            this.#end(cells[index], outcome, inTime[index] ?? performance.now() - started <= this.#budget);
          });
      }
    } catch (error) {
      this.#summary.textContent = signal.aborted ? 'stopped' : error.message;
      if (!signal.aborted) throw error;
    }
  }

  /** Only a whole or landed answer counts as one in time. */
  #end(cell, outcome, inTime) {
    const isKept = inTime && (outcome === 'whole' || outcome === 'landed');
    this.ended += 1;
    if (isKept) this.inTime += 1;
    if (isKept && outcome === 'landed') this.landed += 1;
    cell?.end(isKept);
    this.#summarize();
  }

  /** Tokens by exit. */
  get exits() {
    return summed(this.#cells.map(({ exits }) => exits));
  }

  #summarize() {
    this.#summary.textContent = summaryText(this);
    this.onChange();
  }

  /** Called when an answer has ended. */
  onChange = () => undefined;
}

function summed(counts) {
  const all = {};
  for (const each of counts)
    for (const [layer, tokens] of Object.entries(each)) all[layer] = (all[layer] ?? 0) + tokens;
  return all;
}

function summaryText({ inTime, ended, landed, exits }) {
  const depth = meanDepth(exits);
  const mean = depth === null ? '' : `, mean depth ${depth.toFixed(1)}`;
  return `${inTime} of ${ended} in time${landed === 0 ? '' : `, ${landed} landed`}${mean}`;
}

/** One way to answer the burst: a row for each budget, and their sum. */
class Lane {
  root;
  #way;
  #rows;
  #sum = element('p', { class: 'lane-sum' }, 'waits for its turn');

  /** @param way name, the model name that pins an exit or null, and whether the server knows the budgets */
  constructor(way, budgets, count, longest) {
    this.#way = way;
    this.#rows = budgets.map((budget) => new Row(budget, { isTold: way.isTold }));
    for (const row of this.#rows) {
      row.add(count, longest);
      row.onChange = () => this.#summarize();
    }
    const list = element(
      'div',
      { class: 'burst-rows', role: 'list', 'aria-label': `Answers of ${way.name}` },
      ...this.#rows.map(({ root }) => root),
    );
    this.root = element('section', { class: 'lane' }, element('h3', {}, way.name), this.#sum, list);
  }

  /** Answers in time, ended and landed, and tokens by exit, of all rows. */
  get counts() {
    const sum = (name) => this.#rows.reduce((all, row) => all + row[name], 0);
    const exits = summed(this.#rows.map((row) => row.exits));
    return { inTime: sum('inTime'), ended: sum('ended'), landed: sum('landed'), exits };
  }

  /** Sends the burst. Each row shows its own error. */
  async run(requests, signal) {
    this.#sum.textContent = 'running';
    this.root.classList.add('running');
    const model = this.#way.model === null ? {} : { model: this.#way.model };
    await Promise.allSettled(this.#rows.map((row, index) => row.run({ ...requests[index], ...model }, signal)));
    this.root.classList.remove('running');
  }

  #summarize() {
    this.#sum.textContent = summaryText(this.counts);
  }
}

const requestOf = (prompt, n) => ({
  messages: [{ role: 'user', content: prompt }],
  max_tokens: Number($('burst-tokens').value),
  temperature: 0.7,
  n,
});
const tightest = () => Number($('burst-base').value);

/** One answer at a time until it is stopped. */
function openSteady() {
  let running = null;

  const start = async () => {
    const own = new AbortController();
    running = own;
    const budget = tightest() * STEADY_FACTOR;
    const row = new Row(budget, { name: `${duration(budget)}, steady` });
    $('steady').replaceChildren(row.root);
    try {
      while (!own.signal.aborted) {
        row.add(1, Number($('burst-tokens').value), STEADY_CELLS);
        await row.run(requestOf(STEADY_PROMPT, 1), own.signal);
      }
    } catch {
      // The row shows the error.
      show(null);
    }
  };
  const show = (controller) => {
    running = controller;
    $('steady-toggle').setAttribute('aria-pressed', String(controller !== null));
    $('steady-toggle').textContent = controller === null ? 'Start steady traffic' : 'Stop steady traffic';
  };

  $('steady-toggle').addEventListener('click', () => {
    if (running === null) {
      void start();
      show(running);
    } else {
      running.abort();
      show(null);
    }
  });
}

/** @param onSend called when a burst begins */
export function openBurst({ onSend }) {
  let running = null;
  let exits = [];
  openSteady();

  const showCount = () => {
    $('burst-count').textContent = String(Number($('burst-size').value) * PROMPTS.length);
  };

  /** The router, full depth alone and a pinned exit. */
  const ways = () => {
    const shallow = exits.find(({ model }) => model === $('burst-exit').value) ?? exits[0];
    const deepest = exits.at(-1);
    return [
      { name: 'Router', model: null, isTold: true },
      { name: `Full depth, exit ${deepest.layer}`, model: deepest.model, isTold: false },
      { name: `Always exit ${shallow.layer}`, model: shallow.model, isTold: false },
    ];
  };

  const send = async () => {
    running?.abort();
    const own = new AbortController();
    running = own;
    showError('');
    $('burst-stop').hidden = false;
    $('burst-legend').hidden = false;
    const count = Number($('burst-size').value);
    const longest = Number($('burst-tokens').value);
    const budgets = PROMPTS.map((_, index) => tightest() * 2 ** index);
    const lanes = ways().map((way) => new Lane(way, budgets, count, longest));
    $('burst').replaceChildren(...lanes.map(({ root }) => root));
    onSend();
    announce(`A burst of ${count * budgets.length} answers was sent.`);
    const requests = PROMPTS.map((prompt) => requestOf(prompt, count));
    for (const lane of lanes) if (!own.signal.aborted) await lane.run(requests, own.signal);
    if (running !== own) return;
    $('burst-stop').hidden = true;
    const { inTime, ended } = lanes[0].counts;
    announce(`The burst finished: the router kept ${inTime} of ${ended} budgets.`);
  };

  onSubmit('burst', { send, stop: () => running?.abort() });
  $('burst-size').addEventListener('input', showCount);
  showCount();

  return {
    /** Offers the exits, and keeps the number of answers of a request within the server's limit. */
    show({ exits: offered, maxChoices }) {
      exits = offered;
      const shallow = offered.slice(0, -1);
      $('burst-exit').replaceChildren(...shallow.map(({ layer, model }) => new Option(`exit ${layer}`, model)));
      $('burst-size').max = Math.min(12, maxChoices);
      showCount();
    },
  };
}
