/** The booking of a net: its forecast, its place beside the other nets, and its part of the engine. */
import { type Forecast, forecastOf, type NoForecast } from '../api/generation/forecast.js';
import type { EngineRequest } from '../../protocol/index.js';
import { monotonicMs } from '../../util/clock.js';
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

/** @param request of the local answer @returns why there is none */
export async function forecastNet(
  { context }: Pick<NetShared, 'context'>,
  { deadline }: Pick<NetFor, 'deadline'>,
  request: EngineRequest,
): Promise<Forecast | NoNet> {
  const forecast = await forecastOf(context, request, Math.max(1, deadline.endsAt - monotonicMs()));
  return typeof forecast === 'string' ? (NO_FORECAST[forecast] ?? 'capacity') : forecast;
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
