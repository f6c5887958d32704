// @ts-check
// The numbers of one model, whatever number of views it has: they come whole at first, then as tails.

/** A column that grows: appending copies seldom, and what it gives is a view. */
export class Column {
  constructor() {
    this.room = new Float64Array(64);
    this.length = 0;
  }

  /** @param {ArrayLike<number>} values */
  append(values) {
    const length = this.length + values.length;
    if (length > this.room.length) {
      const room = new Float64Array(Math.max(length, 2 * this.room.length));
      room.set(this.values());
      this.room = room;
    }
    this.room.set(values, this.length);
    this.length = length;
  }

  values() {
    return this.room.subarray(0, this.length);
  }
}

/** @param {any} model of anywidget */
export function makeStore(model) {
  const store = {
    /** @type {any} */ about: { plots: [] },
    /** @type {Column[]} */ columns: [],
    /** @type {number | null} */ stamp: null,
    /** @type {Set<(anew: boolean) => void>} */ watchers: new Set(),
  };
  /** @param {number[]} starts @param {number[]} sizes @param {DataView} bytes */
  const fill = (starts, sizes, bytes) => {
    // A copy: where the bytes lie in a message may be no place for float64.
    const numbers = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    let at = 0;
    sizes.forEach((size, k) => store.columns[k].append(numbers.subarray(at, (at += size - starts[k]))));
  };
  /** @param {any} about @param {number[]} sizes @param {DataView} bytes */
  const replace = (about, sizes, bytes) => {
    store.about = about;
    store.columns = sizes.map(() => new Column());
    fill(sizes.map(() => 0), sizes, bytes);
  };
  const sizes = () => store.columns.map((column) => column.length);
  replace(model.get("about"), model.get("sizes"), model.get("numbers"));
  model.on("msg:custom", (/** @type {any} */ said, /** @type {DataView[]} */ buffers) => {
    if (said.kind === "all") replace(said.about, said.sizes, buffers[0]);
    else if (said.kind !== "tail") return;
    else if (String(said.starts) === String(sizes())) fill(said.starts, said.sizes, buffers[0]);
    else return void model.send({ kind: "hello", sizes: sizes() }); // one was missed: ask for all
    store.stamp = said.stamp;
    store.watchers.forEach((watcher) => watcher(said.kind === "all"));
  });
  model.send({ kind: "hello", sizes: sizes() }); // points may have come before anybody listened
  return store;
}
