/** The budget slider: a logarithmic scale from a tight budget to none at the right end. */
import { duration } from './dom.js';

const STEPS = 100;
const LEAST_MS = 50;
const MOST_MS = 30_000;
/** The step of 2 s. */
const FIRST_STEP = 57;

/** The budget at a step in ms, with two digits; null at the last step, which means no budget. */
export function budgetAt(step) {
  if (step >= STEPS) return null;
  const exact = LEAST_MS * (MOST_MS / LEAST_MS) ** (step / (STEPS - 1));
  const unit = 10 ** (Math.floor(Math.log10(exact)) - 1);
  return Math.round(exact / unit) * unit;
}

export const budgetText = (ms) => (ms === null ? 'no budget' : duration(ms));

export class BudgetSlider {
  #input;
  #output;
  #reason;

  /**
   * @param parts.reason the element that explains a disabled slider
   * @param parts.onChange called when the budget changes
   */
  constructor({ input, output, reason, onChange }) {
    this.#input = input;
    this.#output = output;
    this.#reason = reason;
    input.max = STEPS;
    input.value = FIRST_STEP;
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

  #show() {
    const text = budgetText(budgetAt(Number(this.#input.value)));
    this.#output.textContent = this.#input.disabled ? 'off' : text;
    this.#input.setAttribute('aria-valuetext', text);
  }
}
