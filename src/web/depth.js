/** The visual language for depth: one colour per exit, a gauge of layers, tokens by exit, coloured text. */
import { element } from './dom.js';

/** The stylesheet defines the stops of the scale, --scale-0 (shallow) to --scale-4 (deep), for light and dark. */
const LAST_STOP = 4;

/** The colour of a position between 0, the shallowest exit, and 1, the deepest. */
export function colourAt(position) {
  const at = Math.min(1, Math.max(0, position)) * LAST_STOP;
  const stop = Math.min(LAST_STOP - 1, Math.floor(at));
  const percent = Math.round((at - stop) * 100);
  return `color-mix(in oklab, var(--scale-${stop + 1}) ${percent}%, var(--scale-${stop}))`;
}

/** Defines --exit-LAYER for each exit. @param layers exit layers, shallowest first */
export function defineScale(layers) {
  const last = Math.max(1, layers.length - 1);
  layers.forEach((layer, index) => {
    const position = layers.length === 1 ? 1 : index / last;
    document.documentElement.style.setProperty(`--exit-${layer}`, colourAt(position));
  });
}

/** Gives an element the colour of an exit as --exit. */
export function paint(target, layer) {
  target.style.setProperty('--exit', `var(--exit-${layer})`);
  return target;
}

/** A row of ticks, one per layer or loop of the model. The ones that the exit runs are coloured. */
export function gauge(layer, layers, unit) {
  const ticks = element('div', { class: 'gauge', role: 'img', 'aria-label': `${layer} of ${layers} ${unit}s run` });
  ticks.style.setProperty('--layers', layers);
  ticks.style.setProperty('--share', `${(layer / layers) * 100}%`);
  return paint(ticks, layer);
}

const shallowFirst = (counts) => Object.entries(counts).sort(([one], [other]) => one - other);

/** Tokens by exit in words. */
export function mixText(counts) {
  const parts = shallowFirst(counts).map(([layer, tokens]) => `${tokens} at exit ${layer}`);
  return parts.length === 0 ? 'no tokens' : parts.join(', ');
}

/** One coloured key per exit with its tokens. */
export function mixKeys(counts) {
  const keys = shallowFirst(counts).map(([layer, tokens]) =>
    paint(element('span', { class: 'key' }, `exit ${layer}: ${tokens}`), layer),
  );
  return element('span', { class: 'row', 'aria-hidden': 'true' }, ...keys);
}

/** Text whose parts have the colour of the exit that emitted them. */
export class DepthText {
  #target;
  #part = null;
  #exit = null;

  constructor(target) {
    this.#target = target;
  }

  /** @param exit exit layer of the text; null if unknown, which counts as unchanged */
  append(text, exit) {
    const next = exit ?? this.#exit;
    if (text === '') return;
    if (this.#part === null || next !== this.#exit) {
      this.#part = element('span', { class: 'depth' });
      if (next !== null) paint(this.#part, next);
      this.#target.append(this.#part);
      this.#exit = next;
    }
    this.#part.append(text);
  }
}
