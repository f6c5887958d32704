// Clients that pull: where arrows and stars are at a moment, what is said of a round, and how they are drawn on a canvas.

const [OUT, STAY, SNAPPED] = [0.35, 0.55, 0.8]; // shares of a round: arrows are out; they go; they have come together
const eased = (share) => share * share * (3 - 2 * share);
const between = (from, to, share) => ({ x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) });

/** Which round is seen after so much time, in rounds, and how far it has come, from 0 to 1. */
export function moment(time, count) {
  const place = Math.min(Math.max(Math.ceil(time) - 1, 0), count - 1);
  return { place, share: Math.min(Math.max(time - place, 0), 1) };
}

/** The time at which a run's round, at this place, has ended: runs of fewer rounds end with the longest. */
export function ended(place, count, longest) {
  return place + 1 + longest - count;
}

/** Where the arrows' heads and the star are in a round {from, clients, mean, to} at a share of it. */
export function placed({ from, clients, mean, to }, share) {
  const out = eased(Math.min(share / OUT, 1));
  const snap = eased(Math.min(Math.max((share - STAY) / (SNAPPED - STAY), 0), 1));
  const heads = clients.map((client) => between(between(from, client, out), mean, snap));
  const moved = eased(Math.min(Math.max((share - SNAPPED) / (1 - SNAPPED), 0), 1));
  return { heads, snap, star: snap < 1 ? from : between(mean, to, moved), arrived: share >= 1 };
}

/** A number as a person reads it. */
export function told(value) {
  return value === null || !Number.isFinite(value) ? "no finite value" : String(Number(value.toPrecision(3)));
}

/** What is said of a round in words. */
export function saidOf({ round, from, clients, to, swa }) {
  const losses = clients.map(({ loss }) => loss).filter(Number.isFinite);
  const spread = losses.length ? `${told(Math.min(...losses))} to ${told(Math.max(...losses))}` : "none finite";
  return `round ${round}: loss ${told(from.loss)} → ${told(to.loss)}; clients' ${spread}${swa ? `; average ${told(swa.loss)}` : ""}`;
}

/** Texts at their places, those left out that would lie on another one or leave the picture. */
export function apart(texts, width, height) {
  const taken = [];
  return texts.filter(({ x, y, wide }) => {
    const box = [x, y - 9, x + wide, y + 3];
    const free = box[0] >= 0 && box[2] <= width && box[1] >= 0 && box[3] <= height;
    const own = free && taken.every(([a, b, c, d]) => box[0] > c || box[2] < a || box[1] > d || box[3] < b);
    if (own) taken.push(box);
    return own;
  });
}

function star(pen, { x, y }, size, fill, edge) {
  pen.beginPath();
  for (let k = 0; k < 10; k++) {
    const [angle, reach] = [(k * Math.PI) / 5 - Math.PI / 2, k % 2 ? 0.45 * size : size];
    pen.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
  }
  pen.closePath();
  [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [fill, edge, 1.2];
  pen.fill();
  pen.stroke();
}

function arrow(pen, from, to, color) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const long = Math.hypot(dx, dy);
  if (long < 1) return;
  const [ux, uy, head] = [dx / long, dy / long, Math.min(9, long)];
  [pen.strokeStyle, pen.fillStyle, pen.lineWidth] = [color, color, 1.8];
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x - 0.6 * head * ux, to.y - 0.6 * head * uy);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(to.x, to.y);
  pen.lineTo(to.x - head * ux + 0.45 * head * uy, to.y - head * uy - 0.45 * head * ux);
  pen.lineTo(to.x - head * ux - 0.45 * head * uy, to.y - head * uy + 0.45 * head * ux);
  pen.fill();
}
