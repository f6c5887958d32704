import assert from "node:assert/strict";
import { test } from "node:test";

import { apart, ended, moment, placed, saidOf } from "../../../flatlab/lab/pull_moments.js";

const round = {
  round: 7,
  from: { x: 0, y: 0, loss: 2 },
  clients: [{ x: 4, y: 0, loss: 1 }, { x: 0, y: 2, loss: 3 }, { x: 0, y: 1, loss: NaN }],
  mean: { x: 1, y: 1 },
  to: { x: 2, y: 1, loss: 1.5 },
  swa: { loss: 1.25 },
};

test("time is in rounds: a whole number is the end of one", () => {
  assert.deepEqual(moment(0, 3), { place: 0, share: 0 });
  assert.deepEqual(moment(1, 3), { place: 0, share: 1 });
  assert.deepEqual(moment(1.25, 3), { place: 1, share: 0.25 });
  assert.deepEqual(moment(3, 3), { place: 2, share: 1 });
  assert.deepEqual(moment(-2, 3), { place: 0, share: 0 }); // one of two runs began later
});

test("a round is found where it ends, also of a run that began later", () => {
  for (const [count, longest] of [[3, 3], [2, 3], [1, 4]])
    for (let place = 0; place < count; place++)
      assert.deepEqual(moment(ended(place, count, longest) - (longest - count), count), { place, share: 1 });
});

test("arrows fan out to the clients, stay, snap into the mean, and the star ends at the next model", () => {
  assert.deepEqual(placed(round, 0).heads, [{ x: 0, y: 0 }, { x: 0, y: 0 }, { x: 0, y: 0 }]);
  for (const share of [0.4, 0.5]) {
    assert.deepEqual(placed(round, share).heads, round.clients.map(({ x, y }) => ({ x, y })));
    assert.equal(placed(round, share).star, round.from);
  }
  const snapped = placed(round, 0.81);
  assert.ok(snapped.snap === 1 && snapped.heads.every(({ x, y }) => x === 1 && y === 1) && !snapped.arrived);
  const { star, arrived } = placed(round, 1);
  assert.ok(arrived && Math.abs(star.x - 2) < 1e-12 && Math.abs(star.y - 1) < 1e-12);
});

test("the words have true losses, and leave out what is no number", () => {
  assert.equal(saidOf(round), "round 7: loss 2 → 1.5; clients' 1 to 3; average 1.25");
  assert.match(saidOf({ ...round, clients: [], swa: null }), /clients' none finite$/);
});

test("texts lie beside each other and within the picture", () => {
  const texts = [{ x: 10, y: 20, wide: 30 }, { x: 15, y: 22, wide: 30 }, { x: 10, y: 50, wide: 30 }, { x: 90, y: 50, wide: 30 }, { x: 5, y: 2, wide: 9 }];
  assert.deepEqual(apart(texts, 100, 60).map((one) => texts.indexOf(one)), [0, 2]);
});
