/** The booking of a net: its forecast, its place beside the other nets, and its part of the engine. */
import { forecastOf, type NoForecast } from '../api/generation/forecast.js';
import type { EngineRequest } from '../protocol/index.js';
import { monotonicMs } from '../util/clock.js';
import type { Booking } from './net-account.js';
import type { NetFor, NetShared } from './net-parts.js';
import type { NoNet } from './net-policy.js';

const NO_FORECAST: Readonly<Partial<Record<NoForecast, NoNet>>> = {
  too_long: 'context',
  loading: 'not_ready',
  engine_lost: 'not_ready',
  unknown_token: 'unsupported',
  grammar: 'unsupported',
};

export interface NetBooking extends Booking {
  readonly inAccount: Booking;
  /** By the forecast: the first sentence of each choice. */
  readonly sentenceMs: number;
}

/**
 * @param request of the local answer
 * @param moved is called at each new latest start, but for the first one
 * @param replaced gives its place in the account to the new one
 * @returns why there is none
 */
export async function bookNet(
  { context: { engine }, account, margin }: NetShared,
  { deadline, form }: Pick<NetFor, 'deadline' | 'form'>,
  request: EngineRequest,
  moved: () => void,
  replaced: NetBooking | null,
): Promise<NetBooking | NoNet> {
  const forecast = await forecastOf({ engine }, request, Math.max(1, deadline.endsAt - monotonicMs()));
  if (typeof forecast === 'string') return NO_FORECAST[forecast] ?? 'capacity';
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
