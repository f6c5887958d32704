// @ts-check
// From the columns of a plot to what uPlot takes: one x for all, null where a curve has no point.

import uPlot from "uplot";
import { meanAndBand, sharedBeginning, smoothed } from "./numbers.js";

/**
 * @typedef {{x: Float64Array, y: Float64Array, raw?: Float64Array, low?: Float64Array, high?: Float64Array, rounds?: Float64Array}} Curve
 */

/**
 * A series as a curve; smoothed ones keep what they were made of as `raw`.
 * @param {any} series as `Series.about` tells
 * @param {Float64Array[]} columns its own
 * @param {number} weight of smoothing
 * @param {[number, number] | null} within what the edges of a band cannot leave
 * @returns {Curve}
 */
export function curveOf(series, columns, weight, within = null) {
  const rounds = series.rounds ? columns[columns.length - 1] : undefined;
  const curve = { ...banded(series, rounds ? columns.slice(0, -1) : columns, weight), rounds };
  if (!within || !curve.low || !curve.high) return curve;
  const kept = (/** @type {number} */ value) => Math.min(Math.max(value, within[0]), within[1]);
  return { ...curve, low: curve.low.map(kept), high: curve.high.map(kept) };
}

/** @param {any} series @param {Float64Array[]} columns @param {number} weight @returns {Curve} */
function banded(series, columns, weight) {
  const [x, ...rest] = columns;
  const smooth = weight ? rest.map((column) => smoothed(column, weight)) : rest;
  if (series.members > 1) {
    const { mean, low, high } = meanAndBand(smooth);
    return { x, y: mean, low, high, raw: weight ? meanAndBand(rest).mean : undefined };
  }
  const [y, low, high] = smooth;
  return { x, y, low, high, raw: weight ? rest[0] : undefined };
}

/**
 * The table of a plot: x, then for each curve raw (if smoothed), y, and the edges of its band (if it has one).
 * @param {Curve[]} curves
 * @param {boolean} log whether the y axis is logarithmic
 * @returns {any[]}
 */
export function tableOf(curves, log) {
  if (!curves.length) return [[]];
  const parts = curves.map(({ x, y, raw, low, high }) => [
    x,
    ...[raw, y, low, high].filter((column) => column !== undefined).map((column) => drawable(column, log)),
  ]);
  const xs = parts.map(([x]) => /** @type {Float64Array} */ (x));
  if (!sharedBeginning(xs)) return uPlot.join(/** @type {any} */ (parts));
  return [xs.reduce((a, b) => (b.length > a.length ? b : a)), ...parts.flatMap((part) => part.slice(1))];
}

/** @param {Float64Array} column @param {boolean} log */
function drawable(column, log) {
  const holes = column.some((value) => Number.isNaN(value) || (log && value <= 0));
  return holes ? Array.from(column, (value) => (Number.isNaN(value) || (log && value <= 0) ? null : value)) : column;
}
