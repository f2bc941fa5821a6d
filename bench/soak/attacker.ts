/** The attacker of a soak: a process of its own, so that its work delays no honest client. The parent's end ends it. */
import { setMaxListeners } from 'node:events';
import { type Outcomes, ATTACKS, type Target } from './attacks.js';

const [name = '', text = ''] = process.argv.slice(2);
const attack = ATTACKS.find((each) => each.name === name);
if (attack === undefined) throw new Error(`there is no attack "${name}"`);
const over = new AbortController();
setMaxListeners(Infinity, over.signal);
const outcomes: Outcomes = { answered: 0, rejected: 0, left: 0, failed: [] };
process.once('message', () => {
  over.abort();
});
process.once('disconnect', () => process.exit());
await attack.run(JSON.parse(text) as Target, outcomes, over.signal);
process.send?.(outcomes);
