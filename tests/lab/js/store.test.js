import assert from "node:assert/strict";
import { test } from "node:test";

import { makeStore } from "../../../flatlab/lab/js/store.js";

function bytes(values) {
  const padded = new Uint8Array(3 + 8 * values.length); // begins where no float64 may
  new Uint8Array(padded.buffer, 3).set(new Uint8Array(Float64Array.from(values).buffer));
  return new DataView(padded.buffer, 3);
}

function model(state) {
  const [heard, sent] = [{}, []];
  return {
    sent,
    get: (name) => state[name],
    on: (event, act) => (heard[event] = act),
    send: (message) => sent.push(message),
    say: (message, values = []) => heard["msg:custom"](message, [bytes(values)]),
  };
}

const values = (store) => store.columns.map((column) => [...column.values()]);

test("what comes is appended, however much, and watchers hear of it", () => {
  const kernel = model({ about: { plots: [] }, sizes: [2, 1], numbers: bytes([1, 2, 10]) });
  const store = makeStore(kernel);
  assert.deepEqual(values(store), [[1, 2], [10]]);
  assert.deepEqual(kernel.sent, [{ kind: "hello", sizes: [2, 1] }]);
  const told = [];
  store.watchers.add((anew) => told.push(anew));
  const many = Array.from({ length: 500 }, (_, k) => k);
  kernel.say({ kind: "tail", starts: [2, 1], sizes: [502, 2], stamp: 7 }, [...many, 11]);
  assert.deepEqual(values(store), [[1, 2, ...many], [10, 11]]);
  assert.deepEqual([told, store.stamp], [[false], 7]);
});

test("of a tail that does not fit, all is asked for again", () => {
  const kernel = model({ about: { plots: [] }, sizes: [2], numbers: bytes([1, 2]) });
  const store = makeStore(kernel);
  kernel.say({ kind: "tail", starts: [5], sizes: [6] }, [9]);
  assert.deepEqual(values(store), [[1, 2]]);
  assert.deepEqual(kernel.sent.at(-1), { kind: "hello", sizes: [2] });
  kernel.say({ kind: "all", about: { title: "new", plots: [] }, sizes: [3] }, [1, 2, 3]);
  assert.deepEqual([values(store), store.about.title], [[[1, 2, 3]], "new"]);
  kernel.say({ kind: "file" });
  assert.deepEqual(values(store), [[1, 2, 3]]);
});
