/** An answer of AI SDK, whole and streamed. */
import { generateText, type LanguageModel, streamText } from 'ai';
import type { Test } from 'tap';

/** Checks that both ways give the same text, usage and reason of the end. */
export async function bothWays(
  t: Test,
  asked: { model: LanguageModel; prompt: string; maxOutputTokens: number; temperature: number; maxRetries: number },
): Promise<void> {
  const whole = await generateText(asked);
  t.ok(whole.text.length > 0);
  t.ok((whole.usage.outputTokens ?? 0) > 0, 'usage');
  t.match(whole.finishReason, /^(stop|length)$/);
  const streamed = streamText(asked);
  let text = '';
  for await (const delta of streamed.textStream) text += delta;
  t.equal(text, whole.text);
  t.equal((await streamed.usage).outputTokens, whole.usage.outputTokens, 'usage of a stream');
  t.equal(await streamed.finishReason, whole.finishReason);
}
