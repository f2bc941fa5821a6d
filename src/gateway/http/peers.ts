/** The other processes of a server in several processes, each of which takes a part of its connections. */

/** A part of the use of an API key, in units of its limits. Negative: it ended, or gives back. */
export interface KeyUse {
  /** Digest of the key. */
  readonly keyId: string;
  readonly requests: number;
  readonly tokens: number;
  readonly inFlight: number;
}

export interface Peers {
  /** The series of all processes, as text. */
  metrics(): Promise<string>;
  /** Tells the others of a use here. */
  tell(use: KeyUse): void;
  /** @param listener hears of the uses elsewhere */
  onUse(listener: (use: KeyUse) => void): void;
}
