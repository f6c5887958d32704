import assert from "node:assert/strict";
import { test } from "node:test";

import { beside, ends, under } from "../../../flatlab/lab/js/hits.js";

const boxes = { client: [7, 9, 7], x: [0, 1, 0], y: [0, 0, 1], wide: [1, 1, 1], high: [1, 0.5, 1] };

test("a box holds the pointer, or nothing does", () => {
  assert.equal(under(boxes, 0.2, -0.4, [1, 1]), 0);
  assert.equal(under(boxes, 1.2, 0.2, [1, 1]), 1);
  assert.equal(under(boxes, 1.2, 0.4, [1, 1]), -1);
  assert.equal(under(boxes, -0.1, 1.1, [1, 1]), 2);
});

test("of dots the nearest within reach, each axis in its own units", () => {
  const dots = { client: [1, 2], x: [10, 20], y: [100, 400] };
  assert.equal(under(dots, 12, 120, [5, 50]), 0);
  assert.equal(under(dots, 19, 390, [5, 50]), 1);
  assert.equal(under(dots, 15, 250, [5, 50]), -1);
  assert.equal(under({ client: [], x: [], y: [] }, 0, 0, [1, 1]), -1);
});

test("the keyboard goes through clients in the order of their numbers, round and round", () => {
  const clients = [4, 2, 9, 2];
  assert.deepEqual([null, 2, 4, 9].map((now) => beside(clients, now, 1)), [2, 4, 9, 2]);
  assert.deepEqual([null, 2, 4, 9].map((now) => beside(clients, now, -1)), [9, 9, 2, 4]);
  assert.equal(beside(clients, 5, 1), 2);
  assert.equal(beside([], null, 1), null);
});

test("axes hold the marks unless limits are declared", () => {
  assert.deepEqual(ends([0, 3], [1, 1], null), [-0.5, 3.5]);
  assert.deepEqual(ends([0, 10], undefined, null), [-0.5, 10.5]);
  assert.deepEqual(ends([0, 10], undefined, [9, -1]), [9, -1]);
  assert.deepEqual(ends([], undefined, null), [0, 1]);
});
