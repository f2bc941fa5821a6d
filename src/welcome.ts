/** The text that a terminal shows once the server is ready: addresses, and a first request to paste. */

export interface WelcomeFacts {
  readonly url: string;
  /** The URL of the port with the documentation. */
  readonly docsUrl: string;
  readonly model: string;
  readonly needsKey: boolean;
}

export function welcome({ url, docsUrl, model, needsKey }: WelcomeFacts): string {
  const body = {
    model,
    max_tokens: 60,
    messages: [{ role: 'user', content: 'Why is the sky blue?' }],
  };
  const headers = ['Content-Type: application/json', ...(needsKey ? ['Authorization: Bearer YOUR_KEY'] : [])];
  return `
  Sortie is ready at ${url}

  curl ${url}/v1/chat/completions ${headers.map((header) => `-H '${header}'`).join(' ')} \\
    -d '${JSON.stringify(body)}'

  Budget      add -H 'X-Latency-Budget-Ms: 2000'
  Playground  ${url}/
  API         ${docsUrl}/docs
  Ctrl+C stops the server.

`;
}
