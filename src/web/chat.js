/** The chat view: turns that the browser keeps, each answer with its used budget. */
import { predictPlan, streamChat } from './api.js';
import { BudgetSlider, budgetText } from './budget.js';
import { forgetChat, keepChat, keptChats, titleOf } from './chats.js';
import { $, announce, element, onSubmit, showError, submitOnEnter } from './dom.js';
import { nextText } from './report.js';
import { AnswerTurn, follower } from './turn.js';

/** Wait after the last change of the budget or the text before the plan is asked for. */
const PLAN_DELAY_MS = 200;

const newChat = () => ({ id: crypto.randomUUID?.() ?? String(Date.now()), turns: [] });

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
    reason: $('budget-reason'),
  });
  /** The chat on the page: an id for the storage, and its turns. */
  let chat = newChat();
  let running = null;

  const show = (turn) => {
    const follow = follower();
    $('chat-empty').hidden = true;
    $('turns').append(turn);
    follow();
  };

  const showQuestion = ({ content, budget }) => {
    const text = element('p', { class: 'text' }, content);
    const sub = element('span', { class: 'sub' }, budgetText(budget));
    show(element('article', { class: 'turn-user', 'aria-label': 'You' }, text, sub));
  };

  const messagesOf = (turns) => [
    ...($('system').value.trim() === '' ? [] : [{ role: 'system', content: $('system').value }]),
    ...turns.map(({ role, content }) => ({ role, content })),
  ];

  const requestOf = (budget, turns = chat.turns) => ({
    model: $('depth').value || null,
    messages: messagesOf(turns),
    // An empty field leaves the bound to the server.
    ...(Number($('chat-tokens').value) > 0 && { max_tokens: Number($('chat-tokens').value) }),
    budget,
    onMiss: $('on-miss').value,
  });

  /** Shows the plan that the text in the field would get; nothing if the server cannot tell. */
  const showPlan = async () => {
    planning.abort = new AbortController();
    const { signal } = planning.abort;
    const content = $('chat-prompt').value.trim() || $('chat-prompt').placeholder;
    const report = await predictPlan(requestOf(slider.value, [...chat.turns, { role: 'user', content }]), signal);
    if (!signal.aborted) $('next-plan').textContent = report === null ? '' : nextText(report);
  };

  /** The list of kept chats; the first entry is a new one. */
  const showList = () => {
    const options = keptChats().map((kept) => new Option(titleOf(kept), kept.id));
    const isKept = options.some(({ value }) => value === chat.id);
    $('chat-list').replaceChildren(...(isKept ? [] : [new Option('this chat', chat.id)]), ...options);
    $('chat-list').value = chat.id;
    $('chat-forget').disabled = !isKept;
  };

  const keep = (own) => {
    keepChat(own.id, own.turns);
    showList();
  };

  /** Continues the answer at this place of a chat. @param length turns in front of the answer */
  const goOnOf = (own, length, turn) => () =>
    void again(own, length, turn, restOf(own.turns.slice(0, length), turn.said));

  /** Streams one answer into its turn. @param options parts of `streamChat`, the request, and text that it begins with */
  const answer = async (own, turn, { parts, request, begun = '' }, signal) => {
    const { length } = own.turns;
    let tokens = 0;
    turn.reset(begun);
    try {
      for await (const part of parts(signal)) {
        const follow = follower();
        turn.add(part.text, part.exit, part.reasoning);
        ({ tokens } = part);
        if (part.finish !== null) turn.cut(part.finish, tokens, request);
        if (part.report !== null) {
          if (begun !== '' && tokens === 0) turn.note('The answer was complete: the model adds nothing.');
          turn.end(part.report, goOnOf(own, length, turn));
          turn.announceEnd();
        }
        follow();
      }
    } catch (error) {
      turn.note(signal.aborted ? `Stopped after ${tokens} tokens.` : error.message, !signal.aborted);
      announce(signal.aborted ? 'The answer was stopped.' : error.message);
    }
  };

  /** Runs an answer to the last message of a chat; it stops the one in progress, which stays as it is. */
  const run = async (own, turn, options) => {
    const controller = new AbortController();
    $('chat-stop').hidden = false;
    $('turns').setAttribute('aria-busy', 'true');
    turn.root.classList.add('running');
    const done = answer(own, turn, options, controller.signal).then(() => {
      turn.root.classList.remove('running');
      const { said: content, pieces, report } = turn;
      if (content !== '') own.turns.push({ role: 'assistant', content, pieces, report });
      else own.turns.pop();
      keep(own);
      if (running?.controller !== controller) return;
      running = null;
      $('turns').setAttribute('aria-busy', 'false');
      $('chat-stop').hidden = true;
    });
    running = { controller, done };
    await done;
  };

  const stop = async () => {
    running?.controller.abort();
    await running?.done;
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
    if (own !== chat) return;
    while (turn.root.nextElementSibling !== null) turn.root.nextElementSibling.remove();
    own.turns.splice(length);
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
    const own = chat;
    const question = { role: 'user', content, budget };
    own.turns.push(question);
    showQuestion(question);
    // The reader of a new question follows its answer.
    $('turns').scrollTop = $('turns').scrollHeight;
    $('chat-form').scrollIntoView({ block: 'nearest' });
    const request = requestOf(budget);
    const turn = new AnswerTurn();
    show(turn.root);
    await run(own, turn, { parts: (signal) => streamChat(request, signal), request });
  };

  /** Shows a chat with its turns in place of the one on the page. */
  const open = async (next) => {
    await stop();
    chat = next;
    $('turns').replaceChildren($('chat-empty'));
    $('chat-empty').hidden = chat.turns.length > 0;
    for (const [index, kept] of chat.turns.entries()) {
      if (kept.role === 'user') showQuestion({ budget: null, ...kept });
      else {
        const turn = new AnswerTurn();
        for (const [text, exit] of kept.pieces ?? [[kept.content, null]]) turn.add(text, exit);
        if (kept.report) turn.end(kept.report, goOnOf(chat, index, turn));
        show(turn.root);
      }
    }
    $('turns').scrollTop = $('turns').scrollHeight;
    showList();
  };

  const openNew = async () => {
    await open(newChat());
    $('chat-prompt').focus();
  };

  const showDepth = () => {
    const pinned = $('depth').selectedOptions[0]?.dataset.layer;
    slider.disable(pinned === undefined ? '' : `Exit ${pinned} is pinned, so a budget has no depth to choose.`);
  };

  onSubmit('chat', { send, stop: () => running?.controller.abort() });
  submitOnEnter($('chat-prompt'));
  $('chat-new').addEventListener('click', () => void openNew());
  $('chat-forget').addEventListener('click', () => {
    forgetChat(chat.id);
    void openNew();
  });
  $('chat-list').addEventListener('change', () => {
    const chosen = keptChats().find(({ id }) => id === $('chat-list').value);
    if (chosen !== undefined) void open(chosen);
  });
  $('depth').addEventListener('change', () => {
    showDepth();
    planNext();
  });
  $('chat-prompt').addEventListener('input', planNext);
  const [last] = keptChats();
  if (last === undefined) showList();
  else void open(last);

  return {
    /** Offers the exits of the server. */
    show({ model, exits }) {
      const pinned = exits.map(({ layer, model: id }) => {
        const option = new Option(`always exit ${layer}`, id);
        option.dataset.layer = layer;
        return option;
      });
      $('depth').replaceChildren(new Option('chosen by the budget', model), ...pinned);
      showDepth();
    },
  };
}
