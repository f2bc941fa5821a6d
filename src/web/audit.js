/** The audit of an answer: tokens that full depth would have written otherwise are underlined, with its choice. */
import { element } from './dom.js';

const SKIPPED = {
  full_depth: 'every token is from full depth',
  busy: 'the server had no idle moment',
  off: 'the server makes no audits',
};

const visible = (token) => `“${token.replaceAll('\n', '⏎')}”`;

const choiceText = ({ full_depth: best, rank }) =>
  `full depth: ${visible(best)}${rank === null ? '' : `, this one is its number ${rank}`}`;

/** The text nodes of an answer, each with its start in UTF-16 units. */
function textNodes(text) {
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  const nodes = [];
  let start = 0;
  while (walker.nextNode()) {
    nodes.push({ node: walker.currentNode, start });
    start += walker.currentNode.data.length;
  }
  return nodes;
}

/** Wraps units [from, to) of a text in an element, as far as one text node holds them. */
function wrap(text, from, to, wrapper) {
  const found = textNodes(text).find(({ node, start }) => start <= from && from < start + node.data.length);
  if (found === undefined) return;
  const { node, start } = found;
  const range = document.createRange();
  range.setStart(node, from - start);
  range.setEnd(node, Math.min(node.data.length, to - start));
  range.surroundContents(wrapper);
}

/** Units of the first code points of a text. */
const unitsOf = (text, points) => [...text].slice(0, points).join('').length;

/** The cost of depth, in words and then in its unit. */
function costText(nats) {
  if (nats < 0.005) return 'nothing that full depth can measure';
  const times = Math.exp(nats);
  return `full depth finds its own choice ${times.toFixed(times < 9.95 ? 1 : 0)} times as likely, per token (${nats.toFixed(2)} nats)`;
}

/**
 * Underlines the tokens of an answer that differ. A click on one offers to continue there.
 * @param text the element of the answer's plain text
 * @param onContinue gets the text before a token, with full depth's token at the end
 * @returns the lines of the receipt
 */
export function showAudit(text, audit, onContinue) {
  if (audit.tokens === undefined) {
    return element(
      'p',
      { class: 'legend' },
      `Not compared with full depth: ${SKIPPED[audit.skipped] ?? audit.skipped}.`,
    );
  }
  const whole = text.textContent;
  const chosen = element('p', { class: 'legend audit-choice' });
  // From the end, so that earlier offsets stay right.
  for (const difference of audit.differences.toReversed()) {
    const from = unitsOf(whole, difference.text_offset);
    const button = element('button', { type: 'button', class: 'differs', 'aria-label': '' });
    button.dataset.choice = choiceText(difference);
    button.addEventListener('click', () => {
      const go = element('button', { type: 'button', class: 'quiet' }, 'Continue from here at full depth');
      go.addEventListener('click', () => onContinue(whole.slice(0, from) + difference.full_depth));
      chosen.replaceChildren(`${visible(difference.token)}: ${choiceText(difference)} `, go);
    });
    wrap(text, from, from + difference.token.length, button);
    button.setAttribute('aria-label', `${button.textContent}, ${choiceText(difference)}`);
  }
  const share = audit.agreement === null ? '' : ` (${Math.round(audit.agreement * 100)}%)`;
  const cost = audit.logprob_given_up === null ? [] : [`What depth cost: ${costText(audit.logprob_given_up)}.`];
  const lines = [
    `Underlined: full depth would have written another token; a click shows it. It agrees at ${audit.agreeing} of ${audit.tokens}${share}.`,
    ...cost,
  ];
  return element('div', {}, ...lines.map((line) => element('p', { class: 'legend' }, line)), chosen);
}
