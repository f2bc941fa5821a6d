/**
 * The booking of a net: its forecast, its place beside the other nets, and its part of the engine.
 *
 * The forecast is the time of the local answer to the end of one sentence, with queue, slots and KV memory. It is the
 * least budget that the engine would promise at this moment, and a dry run asks for it.
 */
import { randomBytes } from 'node:crypto';
import type { ApiContext } from '../api/context.js';
import type { Budget, EngineRequest, NetWork, RejectedEvent } from '../../protocol/index.js';
import { monotonicMs } from '../../util/clock.js';
import type { Booking } from './net-account.js';
import type { NetFor, NetShared } from './net-parts.js';
import type { NoNet } from './net-policy.js';

export interface Forecast extends NetWork {
  /** From the question to the end of the sentence, at the shallowest exit of the request, ms. */
  readonly sentenceMs: number;
}

/** No first token comes in this time, so the engine rejects the request and names the least total budget. ms */
const TOO_SHORT = 0.001;

const NO_FORECAST: Readonly<Partial<Record<RejectedEvent['reason'], NoNet>>> = {
  too_long: 'context',
  unknown_token: 'unsupported',
  grammar: 'unsupported',
};

/**
 * @param request of the local answer
 * @param totalMs the forecast is of use for so long
 * @returns why there is none
 */
export async function forecastOf(
  { engine }: Pick<ApiContext, 'engine'>,
  request: EngineRequest,
  totalMs: number,
): Promise<Forecast | NoNet> {
  if (engine.ready === null) return 'not_ready';
  const tokens = request.prompts.reduce((sum, { length }) => sum + length, 0);
  if (!engine.hasRoom(request.tenant ?? '', request.sequences.length, tokens)) return 'capacity';
  const id = randomBytes(12).toString('hex');
  const budget: Budget = { totalMs, ttftMs: TOO_SHORT, tpotMs: null, onMiss: 'reject' };
  const asked: EngineRequest = {
    ...request,
    arrivedAt: monotonicMs(),
    depth: { ...request.depth, budget },
    sequences: request.sequences.map((each, index) => ({ ...each, id: `${id}-${index}` })),
    isDryRun: true,
  };
  for await (const events of engine.generate(asked)) {
    for (const each of events) {
      if (each.type === 'lost') return 'not_ready';
      if (each.type !== 'rejected') continue;
      const { leastFeasibleMs, promised, reason } = each.event;
      if (leastFeasibleMs === null || promised === undefined) return NO_FORECAST[reason] ?? 'capacity';
      return { sentenceMs: leastFeasibleMs, ...promised };
    }
  }
  return 'capacity';
}

export interface NetBooking extends Booking {
  readonly inAccount: Booking;
  /** By the forecast: the first sentence of each choice. */
  readonly sentenceMs: number;
}

/**
 * @param forecast of this moment
 * @param moved is called at each new latest start, but for the first one
 * @param replaced gives its place in the account to the new one; it has not begun
 * @returns why there is none
 */
export function bookNet(
  { context: { engine }, account, margin }: NetShared,
  { deadline, form }: Pick<NetFor, 'deadline' | 'form'>,
  forecast: Forecast,
  moved: () => void,
  replaced: NetBooking | null,
): NetBooking | NoNet {
  const parts = margin.parts(forecast, deadline.endsAt, form.choices);
  const now = monotonicMs();
  const isLate = parts.some(({ dueAt, sentenceMs }) => dueAt - sentenceMs < now);
  const state = { now, slots: engine.ready?.slots ?? 1, direct: forecast.direct };
  const booking = isLate ? null : account.book(parts, state, moved, replaced?.inAccount);
  if (booking === null) {
    account.refused(deadline.endsAt, now);
    return isLate ? 'budget' : 'capacity';
  }
  const held = parts.map((part) => engine.holdNet(part));
  const giveBack = (): void => {
    for (const end of held) end();
  };
  return {
    inAccount: booking,
    sentenceMs: forecast.sentenceMs,
    get latestStart() {
      return booking.latestStart;
    },
    began: (at) => {
      booking.began(at);
      giveBack();
    },
    end: () => {
      booking.end();
      giveBack();
    },
  };
}
