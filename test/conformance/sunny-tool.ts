/** The tool of the conformance tests for the AI SDK. */
import { jsonSchema, tool } from 'ai';
import { weather } from './weather.js';

/** A tool that answers `sunny`, and the inputs of its calls so far. */
export function sunnyTool() {
  const inputs: unknown[] = [];
  const made = tool({
    description: weather.description,
    inputSchema: jsonSchema<{ city: string; unit: string }>(weather.parameters as object),
    execute: (input) => {
      inputs.push(input);
      return 'sunny';
    },
  });
  return { tool: made, inputs };
}
