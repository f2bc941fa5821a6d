/** The budget slider: a logarithmic scale from a tight budget to none at the right end. */
import { element, duration } from './dom.js';
import { paint } from './depth.js';

const STEPS = 100;
const LEAST_MS = 50;
const MOST_MS = 30_000;

/** The budget at a step in ms, with two digits; null at the last step, which means no budget. */
export function budgetAt(step) {
  if (step >= STEPS) return null;
  const exact = LEAST_MS * (MOST_MS / LEAST_MS) ** (step / (STEPS - 1));
  const unit = 10 ** (Math.floor(Math.log10(exact)) - 1);
  return Math.round(exact / unit) * unit;
}

/** The place of a time on the slider, from 0 to 1. */
export function placeOf(ms) {
  const step = (Math.log(ms / LEAST_MS) / Math.log(MOST_MS / LEAST_MS)) * (STEPS - 1);
  return Math.min(STEPS - 1, Math.max(0, step)) / STEPS;
}

export const budgetText = (ms) => (ms === null ? 'no budget' : duration(ms));

export class BudgetSlider {
  #input;
  #output;
  #marks;
  #reason;

  /**
   * @param parts.reason the element that explains a disabled slider
   * @param parts.onChange called when the budget changes
   */
  constructor({ input, output, marks, reason, onChange }) {
    this.#input = input;
    this.#output = output;
    this.#marks = marks;
    this.#reason = reason;
    input.max = STEPS;
    input.value = STEPS;
    input.addEventListener('input', () => {
      this.#show();
      onChange();
    });
    this.#show();
  }

  /** The total budget in ms; null states none. */
  get value() {
    return this.#input.disabled ? null : budgetAt(Number(this.#input.value));
  }

  /** @param reason why the budget has no effect; an empty text enables the slider */
  disable(reason) {
    this.#input.disabled = reason !== '';
    this.#reason.textContent = reason;
    this.#show();
  }

  /** Marks the time that each exit needs for so many tokens. @param times a list of { layer, ms } */
  mark(times, tokens) {
    const marks = times.map(({ layer, ms }) => {
      const mark = paint(
        element('span', { class: 'mark', title: `exit ${layer}: ${tokens} tokens in ${duration(ms)}` }),
        layer,
      );
      mark.style.setProperty('--at', placeOf(ms));
      return mark;
    });
    this.#marks.replaceChildren(...marks);
  }

  #show() {
    const text = budgetText(budgetAt(Number(this.#input.value)));
    this.#output.textContent = this.#input.disabled ? 'off' : text;
    this.#input.setAttribute('aria-valuetext', text);
    this.#input.style.setProperty('--filled', `${this.#input.value}%`);
  }
}
