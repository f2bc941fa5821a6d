/** The streamed answer of a server of completions, event by event. */

/**
 * Sends a request that streams.
 * @yields the data of each event as it arrives
 * @throws Error with the status if the server rejects the request
 */
export async function* streamed(url: string, body: object): AsyncGenerator<string> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
  });
  if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: {')) yield line;
  }
}
