/**
 * `tools`, `tool_choice` and `parallel_tool_calls`: the tools in the prompt and the grammar of the answer. Beside a
 * JSON schema for the answer, one grammar holds both: calls, or JSON.
 *
 * Must not know: the written form of calls, grammars.
 */
import { type ApiError, invalid } from '../../errors.js';
import type { ChatTool } from '../../../text/tool-form.js';
import type { PlannedGrammar } from '../../params/structured-outputs.js';
import { schemaText } from '../../params/value-limits.js';
import type { ChatBody, Tool } from './chat-body.js';
import { quoted } from '../../../../util/quoted.js';

/** Most calls in one answer. Without a limit, a small model goes on until max_tokens. */
const MAX_CALLS = 16;
/** Most UTF-16 units of all schemas together, which take half a second to compile. */
const MAX_SCHEMA_UNITS = 131_072;

export interface ToolPlan {
  /** Tools that the prompt describes; empty if the answer may call none. */
  readonly tools: readonly ChatTool[];
  /** Null for any text. */
  readonly grammar: PlannedGrammar | null;
}

/** @throws ApiError invalid_value for two tools with one name, or parameters that are not an object */
export function chatTools(tools: readonly Tool[]): ChatTool[] {
  const seen = new Set<string>();
  return tools.map(({ function: { name, description, parameters } }, index) => {
    const place = `tools[${index}].function`;
    if (seen.has(name)) throw invalid(`${place}.name`, `must be unique, got ${quoted(name)} twice`);
    seen.add(name);
    const type = parameters?.type ?? 'object';
    if (type !== 'object') throw invalid(`${place}.parameters`, `must have the type "object", got ${quoted(type)}`);
    const none = { properties: {}, additionalProperties: false };
    return {
      type: 'function',
      function: {
        name,
        ...(description === undefined ? {} : { description }),
        parameters: { type, ...(parameters ?? none) },
      },
    };
  });
}

/**
 * Rejects fields that cannot be combined with calls. @returns the schema of an answer without calls; null for any text
 */
function checkTogether(body: ChatBody, format: PlannedGrammar | null, isForced: boolean): string | null {
  const reject = (param: string, why: string): void => {
    throw invalid(param, `cannot be combined with tools${isForced ? ' that must be called' : ''}: ${why}`);
  };
  const { stop, stop_token_ids: stopIds = [] } = body;
  // A text that another grammar allows may begin like a call.
  const schema = format?.grammar.kind === 'json' ? format.grammar.schema : null;
  if (format !== null && schema === null) reject(format.placeOf(null), 'beside calls an answer can only be JSON');
  if (stopIds.length > 0) reject('stop_token_ids', 'a call must not be cut');
  if (!isForced) return schema;
  if (stop !== undefined && stop.length > 0) reject('stop', 'stop strings apply to text, and the answer has none');
  if (body.logprobs === true) reject('logprobs', 'they belong to text, and the answer has none');
  return null;
}

const withoutTools = (param: string): ApiError => invalid(param, 'is only allowed with tools');

/**
 * @param format the grammar of an answer without calls; null for any text
 * @throws ApiError invalid_value for a combination of tool fields that the server does not support
 */
export function planTools(body: ChatBody, format: PlannedGrammar | null): ToolPlan {
  const tools = chatTools(body.tools ?? []);
  const { tool_choice: choice = 'auto', parallel_tool_calls: isParallel = true } = body;
  if (tools.length === 0) {
    // Without tools, "none" is the only possible choice.
    if (body.tool_choice !== undefined && choice !== 'none') throw withoutTools('tool_choice');
    if (body.parallel_tool_calls !== undefined) throw withoutTools('parallel_tool_calls');
  }
  const named = typeof choice === 'object' ? choice.function.name : null;
  const index = tools.findIndex(({ function: { name } }) => name === named);
  if (named !== null && index < 0) throw invalid('tool_choice', `must name one of tools, got ${quoted(named)}`);
  if (tools.length === 0 || choice === 'none') return { tools: [], grammar: format };
  const answer = checkTogether(body, format, choice !== 'auto');
  const placeOf = (part: number): string => `tools[${part}].function.parameters`;
  const functions = tools.map(({ function: { name, parameters } }, part) => ({
    name,
    schema: schemaText(parameters, placeOf(part), placeOf(part)),
  }));
  const length = functions.reduce((sum, { schema }) => sum + schema.length, 0);
  if (length > MAX_SCHEMA_UNITS) {
    throw invalid('tools', `must have at most ${MAX_SCHEMA_UNITS} characters of parameters in all, got ${length}`);
  }
  return {
    tools,
    grammar: {
      grammar: {
        kind: 'calls',
        functions: named === null ? functions : functions.slice(index, index + 1),
        most: named === null && isParallel ? MAX_CALLS : 1,
        isOptional: choice === 'auto' && answer === null,
        ...(answer !== null && { answer }),
      },
      placeOf: (part) => {
        if (named !== null) return placeOf(index);
        if (part === null) return 'tools';
        return part === tools.length ? (format?.placeOf(null) ?? 'tools') : placeOf(part);
      },
    },
  };
}
