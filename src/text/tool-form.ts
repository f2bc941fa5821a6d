/**
 * How tools, calls and results are spelt: the form that Hermes and Qwen models were tuned with.
 *
 * Knows: texts. Must not know: requests, tokens, grammars.
 */
import { Template } from '@huggingface/jinja';

/** A function that the model may call. */
export interface ChatTool {
  readonly type: 'function';
  readonly function: { readonly name: string; readonly description?: string; readonly parameters: object };
}

export interface ChatToolCall {
  readonly id: string;
  readonly type: 'function';
  /** Arguments as templates want them: not as text. */
  readonly function: { readonly name: string; readonly arguments: object };
}

/** The parts of a call in an answer, in order; the name comes after the first, the arguments after the second. */
export const CALL = {
  open: '<tool_call>\n{"name": "',
  middle: '", "arguments": ',
  close: '}\n</tool_call>',
  /** Between two calls. */
  between: '\n',
} as const;

/** An answer that begins like this is a call, and kept to its form from here on: no text begins so by accident. */
export const CALL_BEGINS = '<tool_';

/** Whether a chat template tells of tools itself, and in this form. */
export function speaksOfTools(template: string): boolean {
  return /\btools\b/.test(template) && template.includes('<tool_call>');
}

const SYSTEM = new Template(`{% if system %}{{ system }}

{% endif %}# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>`);

// The library drops a line break that follows a tag: it is written as an expression.
const CALLS = new Template(
  `{% if content %}{{ content + '\\n' }}{% endif %}{% for call in calls %}{% if not loop.first %}{{ between }}{% endif %}` +
    `${CALL.open}{{ call.function.name }}${CALL.middle}{{ call.function.arguments | tojson }}${CALL.close}{% endfor %}`,
);

interface PlainMessage {
  readonly role: string;
  readonly content: string;
}

interface Message extends PlainMessage {
  readonly tool_calls?: readonly ChatToolCall[];
}

/**
 * The same conversation for a template that knows nothing of tools: they are described in the system message, calls are
 * part of the assistant's text, and results are said by the user.
 */
export function withoutTools(messages: readonly Message[], tools: readonly ChatTool[]): PlainMessage[] {
  const plain: PlainMessage[] = [];
  const [first, ...others] = messages;
  // An empty one as well: templates refuse a second.
  const system = first?.role === 'system' ? first.content : null;
  if (tools.length > 0) plain.push({ role: 'system', content: SYSTEM.render({ system, tools }) });
  let results: string[] = [];
  const say = (): void => {
    if (results.length > 0) plain.push({ role: 'user', content: results.join('\n') });
    results = [];
  };
  for (const { role, content, tool_calls: calls } of tools.length > 0 && system !== null ? others : messages) {
    if (role === 'tool') {
      results.push(`<tool_response>\n${content}\n</tool_response>`);
      continue;
    }
    say();
    plain.push({
      role,
      content: calls === undefined ? content : CALLS.render({ content, calls, between: CALL.between }),
    });
  }
  say();
  return plain;
}
