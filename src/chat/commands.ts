/** The commands of a chat: lines that begin with a slash. */
import type { ChatSession } from './session.js';

export const HELP = `\
  /budget MS         latency budget of each answer in ms; /budget off removes it
  /exit-layer LAYER  pins the exit layer; /exit-layer off lets the budget choose (also /exit LAYER)
  /system TEXT       system prompt; /system off removes it
  /reset             forgets the conversation
  /help              shows this list
  /quit              leaves, as Ctrl+D does (also /exit); Ctrl+C cancels an answer`;

/** Abilities of the server. */
export interface Abilities {
  readonly isSortie: boolean;
  /** Exit layers that a request may pin. */
  readonly exits: readonly number[];
}

/** The text to show after a command, or the end of the chat. */
export type Outcome = { readonly text: string; readonly isFault: boolean } | 'quit';

const said = (text: string): Outcome => ({ text, isFault: false });
const fault = (text: string): Outcome => ({ text, isFault: true });

/** Runs a command; null for a line that is a question. */
export function runCommand(line: string, session: ChatSession, abilities: Abilities): Outcome | null {
  const match = /^\/([a-z-]+)(?:\s+(.*))?$/is.exec(line.trim());
  if (match === null) return null;
  const [, name = '', rest = ''] = match;
  const value = rest.trim();
  switch (name.toLowerCase()) {
    case 'budget':
      return budget(value, session, abilities);
    case 'exit':
      return value === '' ? 'quit' : exitLayer(value, session, abilities);
    case 'exit-layer':
      return exitLayer(value, session, abilities);
    case 'system':
      return system(value, session);
    case 'reset':
      session.reset();
      return said('The conversation begins again.');
    case 'help':
      return said(HELP);
    case 'quit':
      return 'quit';
    default:
      return fault(`There is no command /${name}; /help lists the commands.`);
  }
}

function budget(value: string, session: ChatSession, { isSortie }: Abilities): Outcome {
  if (value === '') return said(`Budget: ${session.budgetMs === null ? 'none' : `${session.budgetMs} ms`}.`);
  if (value === 'off') {
    session.budgetMs = null;
    return said('Answers have no budget.');
  }
  const ms = /^(\d{1,8})(?:\s*ms)?$/.exec(value)?.[1];
  if (ms === undefined || Number(ms) === 0)
    return fault(`/budget must be a number of ms above 0, or off, got "${value}".`);
  session.budgetMs = Number(ms);
  const untold = isSortie ? '' : ' This server takes no budgets, so the chat only compares the time.';
  return said(`Answers have a budget of ${session.budgetMs} ms.${untold}`);
}

function exitLayer(value: string, session: ChatSession, { isSortie, exits }: Abilities): Outcome {
  if (!isSortie) return fault('This server has no exit layers.');
  if (value === '') {
    const pinned = session.exitLayer === null ? 'chosen by the server' : `pinned to ${session.exitLayer}`;
    return said(`Exit layer: ${pinned}. The model has ${exits.join(', ')}.`);
  }
  if (value === 'off') {
    session.exitLayer = null;
    return said('The server chooses the exit layer.');
  }
  const layer = exits.find((each) => String(each) === value);
  if (layer === undefined) return fault(`/exit-layer must be one of ${exits.join(', ')}, or off, got "${value}".`);
  session.exitLayer = layer;
  return said(`Answers leave at exit layer ${layer}.`);
}

function system(value: string, session: ChatSession): Outcome {
  if (value === '') return said(`System prompt: ${session.system ?? 'none'}.`);
  session.system = value === 'off' ? null : value;
  return said(session.system === null ? 'There is no system prompt.' : 'The next answers have the system prompt.');
}
