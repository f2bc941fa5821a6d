/** Load that the page makes: steady traffic, one answer at a time, and bursts with one request per budget. */
import { streamChat } from './api.js';
import { meanDepth } from './metrics.js';
import { paint } from './depth.js';
import { $, announce, duration, element, showError } from './dom.js';

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

  /** The whole cell shows the mix of an answer that has ended. */
  end(inTime) {
    this.#fill.style.blockSize = '100%';
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
  #cells = [];
  #list = element('span', { class: 'cells', 'aria-hidden': 'true' });
  #summary = element('span', { class: 'row-summary' });

  constructor(budget, name = duration(budget)) {
    this.#budget = budget;
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
    try {
      for await (const part of streamChat({ ...request, budget: this.#budget }, signal)) {
        cells[part.index]?.add(part.exit);
        if (part.finish !== null && part.report === null)
          this.#end(cells[part.index], performance.now() - started <= this.#budget);
        // The report names the landed answers of the whole request.
        this.landed += part.report?.landed?.choices.length ?? 0;
        if (part.report !== null) this.#summarize();
      }
    } catch (error) {
      this.#summary.textContent = signal.aborted ? 'stopped' : error.message;
      if (!signal.aborted) throw error;
    }
  }

  #end(cell, inTime) {
    this.ended += 1;
    if (inTime) this.inTime += 1;
    cell?.end(inTime);
    this.#summarize();
  }

  #summarize() {
    const exits = {};
    for (const each of this.#cells) {
      for (const [layer, tokens] of Object.entries(each.exits)) exits[layer] = (exits[layer] ?? 0) + tokens;
    }
    const depth = meanDepth(exits);
    const mean = depth === null ? '' : `, mean depth ${depth.toFixed(1)}`;
    this.#summary.textContent = `${this.inTime} of ${this.ended} in time${this.landed === 0 ? '' : `, ${this.landed} landed`}${mean}`;
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
    const row = new Row(budget, `${duration(budget)}, steady`);
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
  openSteady();

  const showCount = () => {
    $('burst-count').textContent = String(Number($('burst-size').value) * PROMPTS.length);
  };

  const send = async () => {
    running?.abort();
    const own = new AbortController();
    running = own;
    showError('');
    $('burst-stop').hidden = false;
    const count = Number($('burst-size').value);
    const rows = PROMPTS.map((_, index) => new Row(tightest() * 2 ** index));
    for (const row of rows) row.add(count, Number($('burst-tokens').value));
    $('burst').replaceChildren(...rows.map(({ root }) => root));
    onSend();
    announce(`A burst of ${count * rows.length} answers was sent.`);
    // Each row shows its own error.
    await Promise.allSettled(rows.map((row, index) => row.run(requestOf(PROMPTS[index], count), own.signal)));
    if (running !== own) return;
    $('burst-stop').hidden = true;
    const total = (key) => rows.reduce((all, row) => all + row[key], 0);
    announce(`The burst finished: ${total('inTime')} of ${total('ended')} answers in time.`);
  };

  $('burst-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void send();
  });
  $('burst-stop').addEventListener('click', () => running?.abort());
  $('burst-size').addEventListener('input', showCount);
  showCount();

  return {
    /** Keeps the number of answers of a request within the server's limit. */
    show({ maxChoices }) {
      $('burst-size').max = Math.min(12, maxChoices);
      showCount();
    },
  };
}
