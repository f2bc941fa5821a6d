/**
 * Markdown of an answer as elements. Marked reads it; this module makes the elements from its tokens, so that no text of
 * a model is ever HTML.
 */
import { lexer } from './marked.js';
import { element } from './dom.js';

/** Blocks and spans whose children are tokens, with their elements. */
const NESTED = {
  paragraph: () => element('p'),
  blockquote: () => element('blockquote'),
  strong: () => element('strong'),
  em: () => element('em'),
  del: () => element('del'),
  heading: ({ depth }) => element(`h${Math.min(6, depth + 2)}`),
};

/** Entities that Marked leaves to HTML. */
const ENTITIES = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#39;': "'" };
const plain = (text) => text.replaceAll(/&(?:amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity]);

/** A link opens in its own tab, and only to the web. */
function link({ href, tokens, text }) {
  const children = nodesOf(tokens ?? [], text);
  if (!/^https?:\/\//i.test(href)) return element('span', {}, ...children);
  return element('a', { href, target: '_blank', rel: 'noreferrer noopener' }, ...children);
}

function list({ ordered, start, items }) {
  const made = element(ordered ? 'ol' : 'ul', ordered && start > 1 ? { start } : {});
  for (const { tokens } of items) made.append(element('li', {}, ...nodesOf(tokens)));
  return made;
}

function table({ header, rows }) {
  const row = (cells, name) => element('tr', {}, ...cells.map(({ tokens }) => element(name, {}, ...nodesOf(tokens))));
  return element(
    'div',
    { class: 'table' },
    element('table', {}, row(header, 'th'), ...rows.map((cells) => row(cells, 'td'))),
  );
}

const LEAVES = {
  space: () => '',
  br: () => element('br'),
  hr: () => element('hr'),
  code: ({ text }) => element('pre', {}, element('code', {}, text)),
  codespan: ({ text }) => element('code', {}, plain(text)),
  checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  link,
  list,
  table,
};

function nodeOf(token) {
  const leaf = LEAVES[token.type];
  if (leaf !== undefined) return [leaf(token)];
  const made = NESTED[token.type]?.(token);
  if (made !== undefined) {
    made.append(...nodesOf(token.tokens ?? [], token.text));
    return [made];
  }
  // Text, HTML, images and all else: as it was written.
  if (token.type === 'text' && token.tokens !== undefined) return nodesOf(token.tokens);
  return [token.type === 'text' || token.type === 'escape' ? plain(token.text) : token.raw];
}

function nodesOf(tokens, text = '') {
  return tokens.length === 0 && text !== '' ? [plain(text)] : tokens.flatMap(nodeOf);
}

/** Shows a text, which may end within a word or a list, in place of the element's content. */
export function showMarkdown(target, text) {
  target.replaceChildren(...nodesOf(lexer(text, { gfm: true, breaks: true })));
}
