/** The compare view: one prompt at all exits, one after the other, or side by side with the speed of each alone. */
import { loadSlowdown, streamChat } from './api.js';
import { gauge, paint } from './depth.js';
import { $, announce, duration, element, onSubmit, showError, submitOnEnter } from './dom.js';

const EXAMPLES = ['What is water made of?', 'What is the opposite of hot?', 'Why is the sky blue?'];

/** Tokens over which the speed of an exit alone is measured. */
const MEASURED_TOKENS = 24;

/** Steps that take so many times their time at the start are those of a busy machine. */
const BUSY = 1.5;

/** Says that other work slows the machine down, so that its speeds are no speeds of the model. */
async function showBusy() {
  const slowdown = await loadSlowdown();
  $('busy').hidden = slowdown < BUSY;
  $('busy').textContent =
    `Busy machine: steps take ${slowdown.toFixed(1)} times their time at the start of the server.`;
}

/** One exit's column. On a phone it is a row of a table, whose text a tap opens. */
class Column {
  #text = element('div', { class: 'column-text' });
  #speed = element('strong', {}, '–');
  #time = element('p', { class: 'time sub' });
  #note = element('p', { class: 'column-note sub' });
  #bar = element('div', { class: 'speed-bar', 'aria-hidden': 'true' });

  /** Tokens per second, as last measured. */
  speed = 0;

  constructor(exit, layers, unit) {
    this.exit = exit;
    const { layer, agreement } = exit;
    const title = `compare-exit-${layer}`;
    const agreed = agreement === null ? 'agreement unknown' : `${Math.round(agreement * 100)}% agreement`;
    const head = [
      element('h3', { id: title }, `Exit ${layer}`, element('span', { class: 'sub' }, ` of ${layers} ${unit}s`)),
      gauge(layer, layers, unit),
      element('p', { class: 'sub' }, agreed),
    ];
    const figures = [element('p', { class: 'speed sub' }, this.#speed, ' tokens/s'), this.#bar, this.#time];
    this.root = paint(
      element(
        'article',
        { class: 'column card', 'aria-labelledby': title },
        element('div', { class: 'stack' }, ...head),
        this.#text,
        this.#note,
        element('div', { class: 'column-figures stack' }, ...figures),
      ),
      layer,
    );
    this.#text.addEventListener('click', () => this.root.classList.toggle('open'));
  }

  reset() {
    for (const part of [this.#text, this.#note, this.#time]) part.textContent = '';
    this.#speed.textContent = '–';
    this.speed = 0;
    this.scaleTo(0);
  }

  /**
   * Streams the answer into the column.
   * @param how 'together' or 'alone'
   * @returns the report, or null if the answer was stopped or failed
   */
  async run(request, signal, { how, onProgress }) {
    this.root.classList.add('running');
    const started = performance.now();
    let firstAt = null;
    let tokens = 0;
    try {
      for await (const part of this.#stream(request, signal)) {
        const at = performance.now();
        firstAt ??= at;
        this.#text.append(part.reasoning, part.text);
        ({ tokens } = part);
        // Side by side all answers have one pace, which says nothing about an exit.
        if (how === 'alone' && tokens > 1 && at > firstAt) this.#showSpeed(((tokens - 1) / (at - firstAt)) * 1000);
        this.#showTime(at - started, tokens, how);
        if (part.finish === 'length') this.#note.textContent = `Cut at ${tokens} tokens.`;
        onProgress();
        if (part.report === null) continue;
        if (how === 'alone' && part.report.tpot_ms) this.#showSpeed(1000 / part.report.tpot_ms);
        this.#showTime(part.report.actual_ms, tokens, how);
        announce(`Exit ${this.exit.layer} finished: ${tokens} tokens in ${duration(part.report.actual_ms)}.`);
        return part.report;
      }
    } catch (error) {
      this.#note.textContent = signal.aborted ? `Stopped after ${tokens} tokens.` : error.message;
    } finally {
      this.root.classList.remove('running');
    }
    return null;
  }

  /** Measures the speed of a short answer while no other answer runs. @returns its report, or null */
  async measure(request, signal) {
    this.root.classList.add('measuring');
    try {
      const short = { ...request, max_tokens: MEASURED_TOKENS, min_tokens: MEASURED_TOKENS };
      for await (const { report } of this.#stream(short, signal)) {
        if (report === null) continue;
        this.#showSpeed(1000 / report.tpot_ms);
        return report;
      }
    } catch (error) {
      if (!signal.aborted) this.#note.textContent = error.message;
    } finally {
      this.root.classList.remove('measuring');
    }
    return null;
  }

  /** Draws the speed beside the fastest one. */
  scaleTo(fastest) {
    this.#bar.style.setProperty('--share', `${fastest === 0 ? 0 : (this.speed / fastest) * 100}%`);
  }

  #stream(request, signal) {
    // Drafts would add the speed of another exit.
    return streamChat({ ...request, model: this.exit.model, budget: null, sortie: { speculate: false } }, signal);
  }

  #showSpeed(speed) {
    this.speed = speed;
    this.#speed.textContent = speed < 10 ? speed.toFixed(1) : String(Math.round(speed));
  }

  #showTime(ms, tokens, how) {
    this.#time.textContent = `${duration(ms)} for ${tokens} token${tokens === 1 ? '' : 's'}${how === 'alone' ? '' : ', side by side'}`;
  }
}

export function openCompare() {
  let columns = [];
  let running = null;

  const scaleBars = () => {
    const fastest = Math.max(...columns.map(({ speed }) => speed));
    for (const column of columns) column.scaleTo(fastest);
  };

  /** Runs a step of each column in turn. A stopped comparison has no further step. */
  const inTurn = async (signal, step) => {
    for (const column of columns) {
      if (signal.aborted) return;
      await step(column);
      scaleBars();
    }
  };

  const compare = async (signal) => {
    const request = {
      messages: [{ role: 'user', content: $('compare-prompt').value }],
      max_tokens: Number($('compare-tokens').value),
      temperature: 0,
    };
    const run = (how) => (column) => column.run(request, signal, { how, onProgress: scaleBars });
    if ($('compare-together').checked) {
      await Promise.all(columns.map(run('together')));
      await inTurn(signal, (column) => column.measure(request, signal));
    } else await inTurn(signal, run('alone'));
  };

  /** A new comparison stops the one in progress. */
  const send = async () => {
    running?.abort();
    const own = new AbortController();
    running = own;
    showError('');
    $('compare-stop').hidden = false;
    for (const column of columns) column.reset();
    await compare(own.signal);
    await showBusy();
    if (running === own) $('compare-stop').hidden = true;
  };

  onSubmit('compare', { send, stop: () => running?.abort() });
  submitOnEnter($('compare-prompt'));
  for (const text of EXAMPLES) {
    const chip = element('button', { type: 'button', class: 'chip' }, text);
    chip.addEventListener('click', () => {
      $('compare-prompt').value = text;
      $('compare-form').requestSubmit();
    });
    $('examples').append(chip);
  }

  return {
    /** Shows the exits of the server. */
    show({ exits, layers, unit }) {
      running?.abort();
      columns = exits.map((exit) => new Column(exit, layers, unit));
      $('columns').replaceChildren(...columns.map(({ root }) => root));
      const list = exits.map(({ layer }) => layer);
      const words = list.length < 2 ? list.join('') : `${list.slice(0, -1).join(', ')} or ${list.at(-1)}`;
      $('lead').textContent =
        `The same weights answer after ${words} ${unit}s. Fewer ${unit}s are faster; more ${unit}s know more.`;
    },
  };
}
