/** One answer of the chat on the page: its text as Markdown, and behind a click the text by depth with its receipt. */
import { DepthText, mixText } from './depth.js';
import { $, announce, duration, element } from './dom.js';
import { showMarkdown } from './markdown.js';
import { endReason, landingOf, reportOf } from './report.js';

/** A reader that is so near the end, in pixels, follows the answer. */
const NEAR_PX = 80;

/** Keeps the end of the conversation in view, unless the reader has scrolled up. @returns call it after a change */
export function follower() {
  const turns = $('turns');
  const isNear = turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR_PX;
  return () => {
    if (isNear) turns.scrollTop = turns.scrollHeight;
  };
}

export class AnswerTurn {
  root = element('article', { class: 'turn-assistant card stack', 'aria-label': 'Answer' });
  said = '';
  /** Parts of the text, each with the exit that emitted it. */
  pieces = [];
  report = null;
  #thoughts = element('p', { class: 'thoughts sub' });
  #text = element('div', { class: 'text stack' });
  #byDepth = element('p', { class: 'depth-text' });
  #note = element('p', { class: 'turn-note sub' });
  #depths = new DepthText(this.#byDepth);

  constructor() {
    this.reset();
  }

  /** @param begun text that the answer begins with */
  reset(begun = '') {
    this.said = '';
    this.pieces = [];
    this.report = null;
    this.#byDepth.replaceChildren();
    this.#byDepth.hidden = true;
    this.#text.hidden = false;
    this.#depths = new DepthText(this.#byDepth);
    this.#thoughts.textContent = '';
    this.#note.textContent = '';
    this.#note.classList.remove('failed');
    this.root.replaceChildren(this.#thoughts, this.#text, this.#byDepth, this.#note);
    this.#text.replaceChildren();
    this.add(begun, null);
  }

  add(text, exit, thoughts = '') {
    this.#thoughts.append(thoughts);
    if (text === '') return;
    this.said += text;
    const last = this.pieces.at(-1);
    if (last !== undefined && (exit === null || exit === last[1])) last[0] += text;
    else this.pieces.push([text, exit]);
    this.#depths.append(text, exit);
    showMarkdown(this.#text, this.said);
  }

  note(text, isFault = false) {
    this.#note.textContent = text;
    this.#note.classList.toggle('failed', isFault);
  }

  /** Notes why the answer ended, unless it ended by itself. */
  cut(finish, tokens, request) {
    this.note(endReason(finish, tokens, request) ?? '');
  }

  /**
   * Shows the end of the answer. Reports of kept chats may hold null where the server leaves a field out.
   * @param onGoOn continues a landed answer
   */
  end(report, onGoOn) {
    this.report = report;
    const { landed, outcome } = report;
    if (outcome === 'landed') this.note('');
    const line = reportOf(report, this.pieces, (isOpen) => {
      this.#text.hidden = isOpen;
      this.#byDepth.hidden = !isOpen;
    });
    this.root.append(...(landed == null ? [] : [landingOf(report, onGoOn)]), line);
  }

  /** Tells the end to screen readers. */
  announceEnd() {
    const { outcome, exit_layers: exits, actual_ms: ms } = this.report;
    announce(
      `Answer ${outcome === 'landed' ? 'landed' : outcome === 'cut' ? 'cut' : 'finished'}. ${mixText(exits)}. Took ${duration(ms)}.`,
    );
  }
}
