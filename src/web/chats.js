/** The chats that the browser keeps in its own storage, newest first. No server sees them again. */

const KEY = 'sortie.chats';
const MOST = 20;

/** Storage may be off, or full. The page then works without it. */
function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter(({ id, turns }) => typeof id === 'string' && Array.isArray(turns)) : [];
  } catch {
    return [];
  }
}

function write(chats) {
  try {
    localStorage.setItem(KEY, JSON.stringify(chats.slice(0, MOST)));
  } catch {
    // The chat stays on the page.
  }
}

/** All chats: { id, turns: [{ role, content, report? }] }. */
export const keptChats = () => read();

/** Keeps a chat; one without turns is forgotten. */
export function keepChat(id, turns) {
  const others = read().filter((chat) => chat.id !== id);
  write(turns.length === 0 ? others : [{ id, turns }, ...others]);
}

export const forgetChat = (id) => keepChat(id, []);

/** The name of a chat: its first question, shortened. */
export const titleOf = ({ turns }) => {
  const title = turns.find(({ role }) => role === 'user')?.content ?? '';
  return title.length > 40 ? `${title.slice(0, 39)}…` : title;
};
