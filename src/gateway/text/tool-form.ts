/** The text form of tools, calls and results, with which Hermes and Qwen models were tuned. */
import { Template } from '@huggingface/jinja';

/** A function that the model may call. */
export interface ChatTool {
  readonly type: 'function';
  readonly function: { readonly name: string; readonly description?: string; readonly parameters: object };
}

export interface ChatToolCall {
  readonly id: string;
  readonly type: 'function';
  /** Arguments are an object, as templates expect, and not a text. */
  readonly function: { readonly name: string; readonly arguments: object };
}

/** The parts of a call in an answer: `open`, the name, `middle`, the arguments, `close`. */
export const CALL = {
  open: '<tool_call>\n{"name": "',
  middle: '", "arguments": ',
  close: '}\n</tool_call>',
  /** Separates two calls. */
  between: '\n',
} as const;

/** An answer with this start is a call, and the grammar of calls holds from here on; prose does not start like this. */
export const CALL_BEGINS = '<tool_';

/** Whether a chat template describes tools itself, and in this form. */
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

// The library drops a line break after a tag, so the template writes it as an expression.
const CALLS = new Template(
  `{% if content %}{{ content + '\\n' }}{% endif %}{% for call in calls %}{% if not loop.first %}{{ between }}{% endif %}` +
    `${CALL.open}{{ call.function.name }}${CALL.middle}{{ call.function.arguments | tojson }}${CALL.close}{% endfor %}`,
);

interface PlainMessage {
  readonly role: string;
  readonly content: string;
}

interface Message extends PlainMessage {
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly ChatToolCall[];
}

/**
 * Rewrites a conversation for a template without tools. The system message describes the tools, the assistant's text
 * holds its calls, and user messages hold the results.
 */
export function withoutTools(messages: readonly Message[], tools: readonly ChatTool[]): PlainMessage[] {
  const plain: PlainMessage[] = [];
  const [first, ...others] = messages;
  // An empty system message counts as well: templates reject a second one.
  const system = first?.role === 'system' ? first.content : null;
  if (tools.length > 0) plain.push({ role: 'system', content: SYSTEM.render({ system, tools }) });
  let results: string[] = [];
  const say = (): void => {
    if (results.length > 0) plain.push({ role: 'user', content: results.join('\n') });
    results = [];
  };
  for (const { role, content, tool_calls: calls, reasoning_content: thoughts } of tools.length > 0 && system !== null
    ? others
    : messages) {
    if (role === 'tool') {
      results.push(`<tool_response>\n${content}\n</tool_response>`);
      continue;
    }
    say();
    plain.push({
      role,
      ...(thoughts !== undefined && { reasoning_content: thoughts }),
      content: calls === undefined ? content : CALLS.render({ content, calls, between: CALL.between }),
    });
  }
  say();
  return plain;
}
