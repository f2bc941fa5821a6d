/** The end of an answer in the chat: one bar of its budget, its landing, and a receipt that a click opens. */
import { mixKeys } from './depth.js';
import { $, duration, element } from './dom.js';

const CLASSES = {
  guaranteed: 'a promise',
  best_effort: 'an attempt',
  none: 'no budget',
};

const range = ({ predicted_p10_ms: low, predicted_p90_ms: high }) =>
  high - low < 1 ? '' : ` (${duration(low)} to ${duration(high)})`;

/** The reason of a depth in words (`sortie.plan.reason`). */
const REASONS = {
  deepest: 'the deepest that the request allows',
  budget: 'as deep as the budget allows',
  load: 'other requests need the time',
};

const reasonText = ({ reason }) => REASONS[reason] ?? 'no plan';

/**
 * The used share of the budget. Its colours are the depths of the answer in order. Without a budget it is full.
 * @param pieces parts of the text, each with its exit
 */
function budgetBar({ actual_ms: actual, budget_ms: budget, outcome }, pieces) {
  const used = budget == null ? 1 : Math.min(1, actual / budget);
  const total = pieces.reduce((sum, [text]) => sum + text.length, 0);
  const parts = pieces.map(([text, layer]) => {
    const part = element('span');
    part.style.background = layer === null ? 'var(--muted)' : `var(--exit-${layer})`;
    part.style.inlineSize = `${(100 * used * text.length) / total}%`;
    return part;
  });
  const isCut = outcome === 'cut' || outcome === 'empty';
  return element('span', { class: isCut ? 'used torn' : 'used', 'aria-hidden': 'true' }, ...parts);
}

/** Deepest and shallowest exit of an answer, in words. */
function depthText(exits) {
  const layers = Object.keys(exits).map(Number);
  if (layers.length === 0) return 'no tokens';
  const [least, most] = [Math.min(...layers), Math.max(...layers)];
  return least === most ? `exit ${most}` : `exits ${least} to ${most}`;
}

/** The outcome of an answer in words (`sortie.outcome`); a good one needs none. */
const OUTCOMES = { late: ', late', cut: ', cut', empty: ', empty' };

function outcomeText({ actual_ms: actual, budget_ms: budget, outcome }) {
  if (budget == null) return `${duration(actual)}, no budget`;
  return `${duration(actual)} of ${duration(budget)}${OUTCOMES[outcome] ?? ''}`;
}

/**
 * The line under an answer: the used budget, and a button that opens the receipt.
 * @param pieces parts of the text, each with its exit
 * @param onToggle called with whether the receipt is open
 */
export function reportOf(report, pieces, onToggle) {
  const receipt = receiptOf(report);
  const button = element(
    'button',
    { type: 'button', class: 'link receipt-toggle', 'aria-expanded': 'false' },
    'Receipt',
  );
  button.addEventListener('click', () => {
    receipt.hidden = !receipt.hidden;
    button.setAttribute('aria-expanded', String(!receipt.hidden));
    onToggle(!receipt.hidden);
  });
  return element(
    'div',
    { class: 'report stack' },
    element(
      'p',
      { class: 'report-line row sub' },
      budgetBar(report, pieces),
      element('span', { class: report.met === false ? 'missed' : '' }, outcomeText(report)),
      element('span', {}, depthText(report.exit_layers)),
      button,
    ),
    receipt,
  );
}

/** The facts of an answer, and the legend of the marks in its text. */
function receiptOf(report) {
  const { plan, exit_layers: exits } = report;
  const fact = (name, ...value) => [element('dt', {}, name), element('dd', {}, ...value)];
  const why = element('button', { type: 'button', class: 'link' }, reasonText(plan));
  why.addEventListener('click', () => $('why').showModal());
  const list = element(
    'dl',
    { class: 'facts' },
    ...fact('Tokens by exit', mixKeys(exits)),
    ...(plan.reason == null ? [] : fact('Why this depth', why)),
    ...(report.predicted_ms === undefined ? [] : fact('Predicted', `${duration(report.predicted_ms)}${range(report)}`)),
    ...(report.ttft_ms == null ? [] : fact('First token', `after ${duration(report.ttft_ms)}`)),
    ...(report.budget_ms == null ? [] : fact('The budget was', CLASSES[plan.service_class] ?? plan.service_class)),
  );
  const receipt = element(
    'div',
    { class: 'receipt stack' },
    list,
    element('p', { class: 'sub' }, 'Colour: the exit that each token left at.'),
  );
  receipt.hidden = true;
  return receipt;
}

/** An answer that ended early to keep its budget. @param onGoOn continues it */
export function landingOf({ landed, plan }, onGoOn) {
  const { at_token: at, probability } = landed;
  const of = plan.expected_tokens > at ? ` of about ${plan.expected_tokens}` : '';
  const chance = probability < 0.01 ? 'under 1%' : `${Math.round(probability * 100)}%`;
  const button = element('button', { type: 'button' }, 'Go on');
  if (probability !== undefined) button.title = `Without the budget, this end had a chance of ${chance}.`;
  button.addEventListener('click', () => {
    button.disabled = true;
    onGoOn();
  });
  return element(
    'p',
    { class: 'landed row sub' },
    element('span', {}, `Landed: it ended early, at a sentence, to keep its budget (${at}${of} tokens).`),
    button,
  );
}

/** The reason for an end that is not the model's own, or null. @param request its budget and max_tokens, if it has them */
export function endReason(finish, tokens, { budget = null, max_tokens: most = Infinity }) {
  if (finish !== 'length') return null;
  return budget == null || tokens >= most
    ? `Cut at ${tokens} tokens, the longest answer.`
    : `Cut at the deadline after ${tokens} tokens.`;
}

/** A plan that the server predicts for the next answer. */
export function nextText({ plan, predicted_ms: predicted, ...report }) {
  const chance = plan.probability === undefined ? '' : `, ${Math.round(plan.probability * 100)}% in time`;
  return `Next answer: exit ${plan.exit_layer} (${reasonText(plan)}), about ${duration(predicted)}${range(report)}${chance}.`;
}
