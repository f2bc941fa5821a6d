/** The receipt of an answer in the chat: plan, depth, landing and times, in words and on one axis. */
import { mixBar, mixKeys } from './depth.js';
import { $, duration, element } from './dom.js';

const CLASSES = {
  guaranteed: 'guaranteed',
  best_effort: 'best effort',
  none: 'no budget',
};

const range = ({ predicted_p10_ms: low, predicted_p90_ms: high }) =>
  high - low < 1 ? '' : ` (${duration(low)} to ${duration(high)})`;

/** The reason of a depth in words (`sortie.plan.reason`). */
const REASONS = {
  deepest: 'the deepest that the request allows',
  budget: 'as deep as the budget allows',
  noise: 'the machine is slower than usual',
  load: 'other requests need the time',
  thoughts: 'thoughts stay shallow',
};

const reasonText = ({ reason }) => REASONS[reason] ?? 'no plan';

/** Opens the explanation of the reasons. */
function whyButton({ exit_layer: exit, reason }) {
  if (reason === null) return [];
  const button = element('button', { type: 'button', class: 'chip' }, `exit ${exit}: ${reasonText({ reason })}`);
  button.addEventListener('click', () => $('why').showModal());
  return [button];
}

/** Predicted range, actual time and budget on one axis. */
function timeline(report) {
  const end = Math.max(report.predicted_p90_ms, report.actual_ms, report.budget_ms ?? 0) * 1.04 || 1;
  const part = (name, from, to = from) => {
    const made = element('span', { class: name });
    made.style.insetInlineStart = `${(from / end) * 100}%`;
    if (to > from) made.style.inlineSize = `${((to - from) / end) * 100}%`;
    return made;
  };
  const budget = report.budget_ms === null ? [] : [part('at-budget', report.budget_ms)];
  return element(
    'span',
    { class: 'timeline', 'aria-hidden': 'true' },
    part('at-range', report.predicted_p10_ms, report.predicted_p90_ms),
    part('at-actual', 0, report.actual_ms),
    part('at-predicted', report.predicted_ms),
    ...budget,
  );
}

function outcome({ met }) {
  if (met === null) return [];
  return [element('span', { class: met ? 'chip met' : 'chip missed' }, met ? '✓ budget met' : '✕ budget missed')];
}

/** The end of an answer: class, depth and times. */
export function reportOf(report) {
  const { plan, budget_ms: budget } = report;
  const of = budget === null ? '' : ` of ${duration(budget)}`;
  return element(
    'div',
    { class: 'report' },
    mixBar(report.exit_layers),
    element(
      'p',
      { class: 'report-line' },
      ...outcome(report),
      element('span', { class: 'chip' }, CLASSES[plan.service_class] ?? plan.service_class),
      ...whyButton(plan),
      mixKeys(report.exit_layers),
    ),
    timeline(report),
    element(
      'p',
      { class: 'report-line' },
      element('span', {}, element('i', { class: 'dot-actual' }), `took ${duration(report.actual_ms)}${of}`),
      element(
        'span',
        {},
        element('i', { class: 'dot-predicted' }),
        `predicted ${duration(report.predicted_ms)}${range(report)}`,
      ),
      ...(report.ttft_ms === null ? [] : [element('span', {}, `first token ${duration(report.ttft_ms)}`)]),
    ),
  );
}

/** An answer that ended early to keep its budget. @param onGoOn continues it */
export function landingOf({ landed, plan }, onGoOn) {
  const { at_token: at, probability } = landed;
  const of = plan.expected_tokens > at ? ` of about ${plan.expected_tokens} expected` : '';
  const chance = probability < 0.01 ? 'under 1%' : `${Math.round(probability * 100)}%`;
  const button = element('button', { type: 'button', class: 'quiet' }, 'Go on from here');
  button.addEventListener('click', () => {
    button.disabled = true;
    onGoOn();
  });
  return element(
    'p',
    { class: 'report-line landed' },
    element('span', { class: 'chip' }, 'landed'),
    element('span', {}, `after ${at}${of} tokens, to keep the budget. Chance of this end without one: ${chance}.`),
    button,
  );
}

/** The reason for an end that is not the model's own, or null. @param most the request's max_tokens */
export function endReason(finish, tokens, most) {
  if (finish !== 'length') return null;
  return tokens >= most
    ? `Cut at ${tokens} tokens, the longest answer.`
    : `Cut at the deadline after ${tokens} tokens.`;
}

export function planText({ plan, predicted_ms: predicted, ...report }) {
  const budget = report.budget_ms === null ? 'no budget' : `a budget of ${duration(report.budget_ms)}`;
  const name = report.budget_ms === null ? '' : `, ${CLASSES[plan.service_class] ?? plan.service_class}`;
  return `Last plan: exit ${plan.exit_layer} (${reasonText(plan)})${name}, ${duration(predicted)} predicted${range(report)} for ${budget}.`;
}

/** A plan that the server predicts for the next answer. */
export function nextText({ plan, predicted_ms: predicted, ...report }) {
  const name = CLASSES[plan.service_class] ?? plan.service_class;
  const chance = plan.probability === null ? '' : `, ${Math.round(plan.probability * 100)}% in time`;
  return `Next answer: exit ${plan.exit_layer} (${reasonText(plan)}), ${name}, about ${duration(predicted)}${range(report)}${chance}.`;
}
