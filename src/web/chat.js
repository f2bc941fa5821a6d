/** The chat view: several turns, coloured by exit, each with its plan and its times. */
import { predictPlan, streamChat, streamContinuation } from './api.js';
import { showAudit } from './audit.js';
import { BudgetSlider, budgetText } from './budget.js';
import { DepthText, mixBar, mixKeys, mixText } from './depth.js';
import { $, announce, duration, element, showError, submitOnEnter } from './dom.js';

const CLASSES = {
  guaranteed: 'guaranteed',
  reserved: 'reserved',
  best_effort: 'best effort',
  none: 'no budget',
};

const range = ({ predicted_p10_ms: low, predicted_p90_ms: high }) =>
  high - low < 1 ? '' : ` (${duration(low)} to ${duration(high)})`;

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
function reportOf(report) {
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

/** The reason for an end that is not the model's own, or null. @param most the request's max_tokens */
function endReason(finish, tokens, most) {
  if (finish !== 'length') return null;
  return tokens >= most
    ? `Cut at ${tokens} tokens, the longest answer.`
    : `Cut at the deadline after ${tokens} tokens.`;
}

function planText({ plan, predicted_ms: predicted, ...report }) {
  const budget = report.budget_ms === null ? 'no budget' : `a budget of ${duration(report.budget_ms)}`;
  const name = report.budget_ms === null ? '' : `, ${CLASSES[plan.service_class] ?? plan.service_class}`;
  return `Last plan: exit ${plan.exit_layer}${name}, ${duration(predicted)} predicted${range(report)} for ${budget}.`;
}

/** A plan that the server predicts for the next answer. */
function nextText({ plan, predicted_ms: predicted, ...report }) {
  const name = CLASSES[plan.service_class] ?? plan.service_class;
  const chance = plan.probability === null ? '' : `, ${Math.round(plan.probability * 100)}% in time`;
  return `Next answer: exit ${plan.exit_layer}, ${name}, about ${duration(predicted)}${range(report)}${chance}.`;
}

/** Wait after the last change of the budget or the text before the plan is asked for. */
const PLAN_DELAY_MS = 200;

export function openChat() {
  const planNext = () => {
    clearTimeout(planning.timer);
    planning.abort.abort();
    planning.timer = setTimeout(() => void showPlan(), PLAN_DELAY_MS);
  };
  const planning = { timer: null, abort: new AbortController() };
  const slider = new BudgetSlider({
    onChange: planNext,
    input: $('budget'),
    output: $('budget-text'),
    marks: $('budget-marks'),
    reason: $('budget-reason'),
  });
  let history = [];
  let running = null;
  /** The model name that pins full depth. */
  let deepest = null;

  const scrollToEnd = () => {
    $('turns').scrollTop = $('turns').scrollHeight;
  };

  const say = (role, ...children) => {
    $('chat-empty').hidden = true;
    const turn = element(
      'article',
      { class: `turn-${role}`, 'aria-label': role === 'user' ? 'You' : 'Answer' },
      ...children,
    );
    $('turns').append(turn);
    scrollToEnd();
    return turn;
  };

  const messagesOf = (turns) => [
    ...($('system').value.trim() === '' ? [] : [{ role: 'system', content: $('system').value }]),
    ...turns.map(({ role, content }) => ({ role, content })),
  ];

  const requestOf = (budget, turns = history) => ({
    model: $('depth').value || null,
    messages: messagesOf(turns),
    max_tokens: Number($('chat-tokens').value) || 128,
    temperature: Number($('temperature').value),
    budget,
    onMiss: $('on-miss').value,
    audit: $('chat-audit').checked,
  });

  /** Shows the plan that the text in the field would get; nothing if the server cannot tell. */
  const showPlan = async () => {
    planning.abort = new AbortController();
    const { signal } = planning.abort;
    const content = $('chat-prompt').value.trim() || $('chat-prompt').placeholder;
    const report = await predictPlan(requestOf(slider.value, [...history, { role: 'user', content }]), signal);
    if (!signal.aborted) $('next-plan').textContent = report === null ? '' : nextText(report);
  };

  /**
   * Streams one answer into its turn.
   * @param parts parts of `streamChat`
   * @param begun text that the answer begins with
   * @param onContinue gets the text after which full depth is to continue
   * @returns the text
   */
  const answer = async (turn, { parts, request, begun = '', onContinue }, signal) => {
    const thoughts = element('p', { class: 'thoughts' });
    const text = element('p', { class: 'text' });
    const note = element('p', { class: 'turn-note' });
    turn.replaceChildren(thoughts, text, note);
    const shown = new DepthText(text);
    shown.append(begun, null);
    let said = begun;
    let tokens = 0;
    let exits = {};
    try {
      for await (const part of parts(signal)) {
        thoughts.append(part.reasoning);
        shown.append(part.text, part.exit);
        said += part.text;
        ({ tokens, exits } = part);
        if (part.finish !== null) note.textContent = endReason(part.finish, tokens, request.max_tokens) ?? '';
        if (part.report !== null) {
          const { audit } = part.report;
          turn.append(reportOf(part.report), ...(audit === undefined ? [] : [showAudit(text, audit, onContinue)]));
          $('last-plan').textContent = planText(part.report);
          announce(`Answer finished. ${mixText(part.report.exit_layers)}. Took ${duration(part.report.actual_ms)}.`);
        }
        scrollToEnd();
      }
    } catch (error) {
      note.textContent = signal.aborted ? `Stopped after ${tokens} tokens.` : error.message;
      note.classList.toggle('failed', !signal.aborted);
      if (tokens > 0) turn.append(mixBar(exits), element('p', { class: 'report-line' }, mixKeys(exits)));
      announce(note.textContent);
    }
    return said;
  };

  /** Runs an answer to the last message of a conversation; it stops the one in progress, which stays as it is. */
  const run = async (own, turn, options) => {
    const controller = new AbortController();
    $('chat-stop').hidden = false;
    $('turns').setAttribute('aria-busy', 'true');
    turn.classList.add('running');
    const length = own.length;
    const done = answer(
      turn,
      { ...options, onContinue: (text) => void goOn(own, length, turn, text) },
      controller.signal,
    ).then((said) => {
      turn.classList.remove('running');
      if (said !== '') own.push({ role: 'assistant', content: said });
      else own.pop();
      if (running?.controller !== controller) return;
      running = null;
      $('turns').setAttribute('aria-busy', 'false');
      $('chat-stop').hidden = true;
      scrollToEnd();
    });
    running = { controller, done };
    await done;
  };

  const stop = async () => {
    running?.controller.abort();
    await running?.done;
  };

  /** Goes on at full depth after a text of an answer. Later turns would not follow from it, so they are removed. */
  const goOn = async (own, length, turn, text) => {
    await stop();
    if (own !== history) return;
    const request = { ...requestOf(null), messages: messagesOf(own.slice(0, length)), model: deepest };
    const { messages, max_tokens, temperature, model } = request;
    while (turn.nextElementSibling !== null) turn.nextElementSibling.remove();
    own.splice(length);
    const body = { messages, text, max_tokens, temperature, model };
    await run(own, turn, { parts: (signal) => streamContinuation(body, signal), request, begun: text });
  };

  const send = async () => {
    const content = $('chat-prompt').value.trim();
    if (content === '') return;
    await stop();
    const budget = slider.value;
    showError('');
    $('chat-prompt').value = '';
    $('next-plan').textContent = '';
    clearTimeout(planning.timer);
    planning.abort.abort();
    const own = history;
    own.push({ role: 'user', content });
    say('user', element('p', { class: 'text' }, content), element('span', { class: 'sub' }, budgetText(budget)));
    const request = requestOf(budget);
    await run(own, say('assistant'), { parts: (signal) => streamChat(request, signal), request });
  };

  const showDepth = () => {
    const pinned = $('depth').selectedOptions[0]?.dataset.layer;
    slider.disable(pinned === undefined ? '' : `Exit ${pinned} is pinned, so a budget has no depth to choose.`);
  };

  $('chat-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void send();
  });
  submitOnEnter($('chat-prompt'));
  $('chat-stop').addEventListener('click', () => running?.controller.abort());
  $('chat-new').addEventListener('click', () => {
    running?.controller.abort();
    history = [];
    $('turns').replaceChildren($('chat-empty'));
    $('chat-empty').hidden = false;
    $('chat-prompt').focus();
  });
  $('depth').addEventListener('change', () => {
    showDepth();
    planNext();
  });
  $('chat-prompt').addEventListener('input', planNext);
  $('temperature').addEventListener('input', () => {
    $('temperature-text').textContent = Number($('temperature').value).toFixed(1);
  });

  return {
    /** Offers the exits of the server. */
    show({ model, exits }) {
      deepest = exits.at(-1)?.model ?? model;
      const pinned = exits.map(({ layer, model: id }) => {
        const option = new Option(`always exit ${layer}`, id);
        option.dataset.layer = layer;
        return option;
      });
      $('depth').replaceChildren(new Option('chosen by the budget', model), ...pinned);
      showDepth();
    },
    /** Shows on the slider how long each exit took in a comparison. */
    mark(times, tokens) {
      slider.mark(times, tokens);
      $('budget-key').textContent =
        times.length === 0 ? '' : `Marks: ${tokens} tokens at each exit, as measured in Compare.`;
    },
  };
}
