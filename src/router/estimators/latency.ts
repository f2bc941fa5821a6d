/**
 * Residual model of the forecast: a prediction is the forecast of the current batch times a learnt correction.
 *
 * A forecast knows the present requests, not the arrivals to come. The correction is linear in log space with a bias and
 * three features; each answer moves it by a clipped error, so it settles at the median and outliers barely move it. Two
 * quantiles of the remaining error are tracked beside it, for the interval that holds 80% of outcomes.
 */
import type { LatencyFeatures } from '../types.js';

/** Weights of bias, queueing, excess over the budget, and arrivals. */
export type LatencyModel = readonly [number, number, number, number];

/** Offsets of the 10% and 90% bounds of a total, in log space. */
export interface Offsets {
  readonly low: number;
  readonly high: number;
}

/** What an answer far off the prediction moves the correction by: 1%. */
const STEP = 0.01;
/** Far off: an error in log space, about 20%; below it the step shrinks in proportion. */
const FAR = 0.2;
/** Most that a forecast is corrected by, in log space. */
const MOST = Math.log(4);
/** Step of the quantile tracking, in log space. */
const BOUND_STEP = 0.1;

export const initialTtft: LatencyModel = [0, 0, 0, 0];
/** A forecast beyond the budget comes to little more than the budget, since depth gives way; arrivals delay an answer. */
export const initialTotal: LatencyModel = [-0.1, 0, -0.8, 0.2];

const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(-limit, value));

function vectorOf({ forecastMs, aloneMs, budgetMs, arrivals }: LatencyFeatures): number[] {
  return [
    1,
    clamp(Math.log(Math.max(1e-3, forecastMs) / Math.max(1e-3, aloneMs)), 4),
    clamp(Math.log(Math.max(1, forecastMs / budgetMs)), 4),
    Math.log1p(Math.min(20, arrivals)),
  ];
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

/** Median milliseconds of an answer. */
export function predictedMs(model: LatencyModel, features: LatencyFeatures): number {
  return features.forecastMs * Math.exp(clamp(dot(model, vectorOf(features)), MOST));
}

/** Learns how long an answer took. */
export function observeLatency(model: LatencyModel, features: LatencyFeatures, actualMs: number): LatencyModel {
  if (!(actualMs > 0) || !(features.forecastMs > 0)) return model;
  const vector = vectorOf(features);
  const error = Math.log(actualMs / features.forecastMs) - dot(model, vector);
  const by = (STEP * clamp(error, FAR)) / FAR / dot(vector, vector);
  const [bias, queueing, excess, arrivals] = model.map((value, i) => value + by * (vector[i] ?? 0));
  return [bias ?? 0, queueing ?? 0, excess ?? 0, arrivals ?? 0];
}

/** Learns whether an answer took less than the bounds that were predicted for it. */
export function observeBounds({ low, high }: Offsets, p10Ms: number, p90Ms: number, actualMs: number): Offsets {
  return {
    low: clamp(low + BOUND_STEP * (actualMs < p10Ms ? -0.9 : 0.1), MOST),
    high: clamp(high + BOUND_STEP * (actualMs < p90Ms ? -0.1 : 0.9), MOST),
  };
}
