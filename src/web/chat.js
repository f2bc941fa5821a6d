/** The chat view: several turns, coloured by exit, each with its plan and its times. */
import { predictPlan, streamChat, streamContinuation } from './api.js';
import { showAudit } from './audit.js';
import { BudgetSlider, budgetText } from './budget.js';
import { DepthText, mixBar, mixKeys, mixText } from './depth.js';
import { $, announce, duration, element, showError, submitOnEnter } from './dom.js';
import { endReason, landingOf, nextText, planText, reportOf } from './report.js';

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
   * @param onGoOn gets the text of a landed answer that is to go on without a budget
   * @returns the text
   */
  const answer = async (turn, { parts, request, begun = '', onContinue, onGoOn }, signal) => {
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
          const { audit, landed } = part.report;
          const whole = said;
          if (begun !== '' && tokens === 0) note.textContent = 'The answer was complete: the model adds nothing.';
          if (landed !== null) turn.append(landingOf(part.report, () => onGoOn(whole)));
          turn.append(reportOf(part.report), ...(audit === undefined ? [] : [showAudit(text, audit, onContinue)]));
          $('last-plan').textContent = planText(part.report);
          announce(
            `Answer ${landed === null ? 'finished' : 'landed'}. ${mixText(part.report.exit_layers)}. ` +
              `Took ${duration(part.report.actual_ms)}.`,
          );
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
      {
        ...options,
        onContinue: (text) => void again(own, length, turn, continuationOf(own.slice(0, length), text)),
        onGoOn: (text) => void again(own, length, turn, restOf(own.slice(0, length), text)),
      },
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

  /** Continues a text at full depth, token by token: it may end within a sentence. */
  const continuationOf = (turns, text) => {
    const request = { ...requestOf(null), messages: messagesOf(turns), model: deepest };
    const { messages, max_tokens, temperature, model } = request;
    const body = { messages, text, max_tokens, temperature, model };
    return { parts: (signal) => streamContinuation(body, signal), request, begun: text };
  };

  /** Continues a landed answer as a chat, without a budget. */
  const restOf = (turns, text) => {
    const request = requestOf(null, [...turns, { role: 'assistant', content: text }]);
    const body = { ...request, continue_final_message: true };
    return { parts: (signal) => streamChat(body, signal), request, begun: text };
  };

  /** Runs a continuation of an answer. Later turns would not follow from it, so they are removed. */
  const again = async (own, length, turn, options) => {
    await stop();
    if (own !== history) return;
    while (turn.nextElementSibling !== null) turn.nextElementSibling.remove();
    own.splice(length);
    await run(own, turn, options);
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
