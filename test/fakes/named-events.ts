/** Streams of named events, as /v1/responses and /v1/messages have them. */

export interface NamedEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** The events of a stream. @param last receives the data of events without a name, such as [DONE] */
export function namedEvents(text: string, last: string[] = []): NamedEvent[] {
  return text
    .split('\n\n')
    .filter((block) => block !== '')
    .flatMap((block) => {
      const [first = '', second = ''] = block.split('\n');
      if (first.startsWith('event: ')) {
        const data = JSON.parse(second.slice('data: '.length)) as NamedEvent['data'];
        return [{ name: first.slice('event: '.length), data }];
      }
      if (first.startsWith('data: ')) last.push(first.slice('data: '.length));
      return [];
    });
}
