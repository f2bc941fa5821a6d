/**
 * `sortie chat`: a conversation with any OpenAI-compatible server, in a terminal or through a pipe.
 *
 * Answers go to standard output, all other lines to standard error, so a pipe holds the answers alone.
 */
import { createInterface, type Interface } from 'node:readline/promises';
import { chooseModel, hasOwnBound, serverAt } from '../../bench/remote/server.js';
import { streamTurn } from './chat-answer.js';
import { runCommand } from './commands.js';
import { ChatSession } from './session.js';
import { hasColours, styleOf, type Terminal } from './style.js';

export interface ChatOptions {
  readonly url: string;
  readonly model: string | null;
  readonly apiKey: string | null;
}

type Output = NodeJS.WritableStream & Terminal & { readonly columns?: number };

/** `max_tokens` of an answer whose server has no bound of its own. */
const MAX_TOKENS = 1024;

export interface ChatIo {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly output: Output;
  readonly errors: Output;
}

const PROMPT = '> ';

/**
 * Chats until the input ends or /quit.
 * @returns whether all answers were complete
 * @throws Error if the URL is wrong, or the server is out of reach or lists no model
 */
export async function chatCommand(options: ChatOptions, { input, output, errors }: ChatIo): Promise<boolean> {
  const server = serverAt(options.url, options.apiKey);
  const chat = { server, ...(await chooseModel(server, options.model)) };
  const session = new ChatSession();
  // A small model may ramble to the end of the context.
  if (!(chat.isSortie && (await hasOwnBound(server)))) session.maxTokens = MAX_TOKENS;
  const isTerminal = output.isTTY === true;
  const isInteractive = input.isTTY === true && isTerminal;
  const shown = {
    write: (text: string) => output.write(text),
    style: styleOf(hasColours(output)),
    isTerminal,
    columns: isTerminal ? () => output.columns ?? 80 : null,
  };
  const noteStyle = styleOf(hasColours(errors));
  let isComplete = true;
  const say = (text: string, isFault = false): void => {
    errors.write(`${isFault ? noteStyle.fault(text) : noteStyle.note(text)}\n`);
    if (isFault) isComplete = false;
  };

  const lines = createInterface({ input, ...(isInteractive ? { output, terminal: true, prompt: PROMPT } : {}) });
  let answering: AbortController | null = null;
  if (isInteractive) {
    const exits = chat.exits.length === 0 ? '' : `, exits ${chat.exits.join(', ')}`;
    say(`${chat.model} at ${server.baseUrl}${exits}. /help lists the commands.`);
    watchKeys(lines, errors, noteStyle.note('Ctrl+D or /quit leaves.'), () => answering);
    lines.prompt();
  }
  for await (const line of lines) {
    const outcome = runCommand(line, session, chat);
    if (outcome === 'quit') break;
    if (outcome !== null) say(outcome.text, outcome.isFault);
    else if (line.trim() !== '') {
      answering = new AbortController();
      const turn = await streamTurn(chat, session, line.trim(), shown, answering.signal);
      answering = null;
      if (turn.text !== '' || !turn.isFailed) output.write('\n');
      say(turn.note, turn.isFailed);
    }
    if (isInteractive) lines.prompt();
  }
  lines.close();
  // The prompt of the shell begins a line of its own.
  if (isInteractive) errors.write('\n');
  return isInteractive || isComplete;
}

/** Ctrl+C cancels the answer in progress, or drops the line. @param hint shown where the line is empty */
function watchKeys(lines: Interface, errors: Output, hint: string, answering: () => AbortController | null): void {
  lines.on('close', () => answering()?.abort());
  lines.on('SIGINT', () => {
    if (answering() !== null) {
      answering()?.abort();
      return;
    }
    if (lines.line === '') errors.write(`\n${hint}`);
    // Clears the line, whose text is not sent.
    lines.write(null, { ctrl: true, name: 'e' });
    lines.write(null, { ctrl: true, name: 'u' });
    errors.write('\n');
    lines.prompt();
  });
}
