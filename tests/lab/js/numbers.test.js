// Run by tests/lab/test_javascript.py, or: node --test tests/lab/js

import assert from "node:assert/strict";
import { test } from "node:test";

import * as numbers from "../../../flatlab/lab/js/numbers.js";

const between = (values, low, high) => values.every((value) => value >= low && value <= high);

test("ticks are few, round, inside the range, and as many at every scale", () => {
  assert.deepEqual(numbers.ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(numbers.ticks(-0.3, 0.31, 6), [-0.2, 0, 0.2].map((x) => +x));
  for (let power = -9; power < 9; power += 1)
    for (const [low, high] of [[1, 3], [-2, 7], [99, 100], [0, 0.7]]) {
      const found = numbers.ticks(low * 10 ** power, high * 10 ** power, 6);
      assert.ok(found.length >= 3 && found.length <= 7, `${found}`);
      assert.ok(between(found, low * 10 ** power - 1e-12 * 10 ** power, high * 10 ** power * (1 + 1e-9)));
      assert.equal(new Set(found).size, found.length);
    }
  assert.deepEqual(numbers.ticks(3, 3), [3]);
});

test("a logarithmic axis has powers of ten, or 1, 2, 5, or what a linear one has", () => {
  assert.deepEqual(numbers.logTicks(0.01, 200), [0.01, 0.1, 1, 10, 100]);
  assert.deepEqual(numbers.logTicks(1, 20), [1, 2, 5, 10, 20]);
  assert.ok(numbers.logTicks(0.31, 0.42).length >= 3);
  assert.ok(numbers.logTicks(1e-30, 1e30).length <= 9);
});

test("smoothing divides by the weights there are, and passes over what is no number", () => {
  const [a, b, c] = numbers.smoothed([4, 8, 6], 0.5);
  assert.deepEqual([a, b], [4, (8 + 4 / 2) / 1.5]);
  assert.ok(Math.abs(c - (6 + 8 / 2 + 4 / 4) / 1.75) < 1e-12);
  assert.deepEqual([...numbers.smoothed([5, 7, 9], 0)], [5, 7, 9]);
  const [, hole, after] = numbers.smoothed([4, NaN, 8], 0.5);
  assert.ok(Number.isNaN(hole) && after === (8 + 4 / 4) / 1.25);
});

test("a band is one standard deviation of the members", () => {
  const { mean, low, high } = numbers.meanAndBand([[1, 5], [3, 5], [5, 5]]);
  assert.deepEqual([...mean], [3, 5]);
  assert.deepEqual([...low], [1, 5]);
  assert.deepEqual([...high], [5, 5]);
});

test("the nearest value, whichever side, in every sorted list", () => {
  for (let length = 1; length < 9; length += 1) {
    const sorted = Array.from({ length }, (_, k) => k * k);
    for (let value = -1; value < 66; value += 0.5) {
      const found = sorted[numbers.closest(sorted, value)];
      assert.equal(Math.abs(found - value), Math.min(...sorted.map((one) => Math.abs(one - value))));
    }
  }
  assert.equal(numbers.closest([], 3), -1);
});

test("the nearest curve within reach", () => {
  const heights = [{ height: 10, what: "a" }, { height: 30, what: "b" }];
  assert.equal(numbers.nearest(heights, 27, 24), "b");
  assert.equal(numbers.nearest(heights, 90, 24), null);
  assert.equal(numbers.nearest([], 1, 24), null);
});

test("columns share an x axis if each is the beginning of the longest", () => {
  assert.ok(numbers.sharedBeginning([[1, 2], [1, 2, 3], []]));
  assert.ok(!numbers.sharedBeginning([[2], [1, 2, 3]]));
});

test("a line of many points keeps its ends, peaks and pits, and has four points a pixel at most", () => {
  const points = Array.from({ length: 10_000 }, (_, k) => [k / 100, Math.sin(k) * (k === 5003 ? 9 : 1)]);
  const kept = numbers.decimated(points);
  assert.ok(kept.length <= 4 * 100);
  assert.deepEqual([kept[0], kept.at(-1)], [points[0], points.at(-1)]);
  const lowest = (pairs) => Math.min(...pairs.map(([, y]) => y));
  assert.equal(lowest(kept), lowest(points));
  assert.deepEqual(kept, [...kept].sort(([a], [b]) => a - b));
  const few = [[0, 1], [3, 2], [9, 0]];
  assert.deepEqual(numbers.decimated(few), few);
});

test("an axis has room for its values, not below nothing, and sense without any", () => {
  assert.deepEqual(numbers.roomy(null, null, false), [0, 1]);
  assert.deepEqual(numbers.roomy(NaN, 3, true), [0.1, 1]);
  const [low, high] = numbers.roomy(0.01, 2, false);
  assert.ok(low === 0 && high > 2);
  assert.ok(numbers.roomy(5, 5, false)[1] > 5 && numbers.roomy(-3, -3, false)[0] < -3);
  assert.deepEqual(numbers.roomy(1, 10, true), [1 / 1.1, 11]);
});

test("numbers are read in four digits", () => {
  assert.deepEqual([93.21456, 0.000123, 0.0001, 1.2e5, 123456, 0, -2.5, null, NaN].map(numbers.digits),
    ["93.21", "1.23e-4", "1e-4", "1.2e+5", "1.23e+5", "0", "-2.5", "–", "–"]);
});

test("error bars stand where a value has one, and on a logarithmic axis above nothing", () => {
  const curve = { x: [1, 2, 3], low: [0.5, NaN, -1], high: [1.5, 2, 4] };
  assert.deepEqual(numbers.errorBars(curve, false), [[1, 0.5, 1.5], [3, -1, 4]]);
  assert.deepEqual(numbers.errorBars(curve, true), [[1, 0.5, 1.5]]);
  assert.deepEqual(numbers.errorBars({ x: [1] }, false), []);
});
