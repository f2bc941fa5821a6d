/** Small helpers for elements, numbers and keys. */
export const $ = (id) => document.getElementById(id);

/** Creates an element. @param children nodes or text */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A time with three digits at most, such as "640 ms" or "1.32 s". */
export function duration(ms) {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1).replace(/\.?0+$/, '')} s`;
}

/** Enter submits the form of a text area; Shift and Enter break the line. An input method keeps its own Enter. */
export function submitOnEnter(area) {
  area.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    area.form.requestSubmit();
  });
}

/** Runs `send` in place of the submission of a form, and `stop` at its button. */
export function onSubmit(form, { send, stop }) {
  $(`${form}-form`).addEventListener('submit', (event) => {
    event.preventDefault();
    void send();
  });
  $(`${form}-stop`).addEventListener('click', stop);
}

/** Says a sentence to screen readers. */
export function announce(text) {
  $('status').textContent = text;
}

/** Shows an error above the panels; an empty text hides it. */
export function showError(text) {
  $('error').textContent = text;
  $('error').hidden = text === '';
}
