import assert from "node:assert/strict";
import { test } from "node:test";

import { columnsOf, lastOf } from "../../../flatlab/lab/js/legend.js";

const plot = (label, ...names) => ({ about: { y: { label }, series: names.map((name) => ({ name })) } });

test("curves that stand in several plots have a column for each", () => {
  const plots = [plot("accuracy (%)", "FedAvg", "FedBABU"), plot("loss", "FedAvg", "FedBABU")];
  assert.deepEqual(columnsOf(plots).map(({ label }) => label), ["accuracy (%)", "loss"]);
  assert.equal(columnsOf([plot("loss", "FedAvg")]).length, 1);
});

test("curves with a plot of their own share a column, named by what is the same in all", () => {
  const multiples = [plot("lr 0.1: accuracy (%)", "lr 0.1"), plot("lr 0.2: accuracy (%)", "lr 0.2")];
  assert.deepEqual(columnsOf(multiples), [{ label: "accuracy (%)", plots: multiples }]);
  const against = [plot("holdout accuracy (%)", "holdout accuracy"), plot("λ₁", "λ₁")];
  assert.deepEqual(columnsOf(against), [{ label: "", plots: against }]);
});

test("without a pointer a legend has the last values, and says of which value of a setting they are", () => {
  const about = (label, role) => ({ x: { label }, series: [{ role }] });
  assert.equal(lastOf(about("round", "values"), [{ x: [1, 2] }]), "last");
  assert.equal(lastOf(about("samples", "line"), [{ x: [1, 2] }]), "last");
  assert.equal(lastOf(about("lr", "values"), [{ x: [0.05, 0.5] }, { x: [] }]), "lr 0.5");
  assert.equal(lastOf(about("0: sgd, 1: sam", "values"), [{ x: [0, 1] }]), "last");
});
