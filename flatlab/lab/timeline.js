// The time line of a run: a slider over its rounds that plays. Views that have all rounds follow it in the browser, by an
// event of the document; the kernel hears of a round when the slider comes to rest.

const ROUND = "flatlab-round"; // as in js/link.js: {run, round}; null: the end, which follows the run
const SPEEDS = [1, 2, 5, 10, 20, 50]; // rounds a second

/**
 * Where a time line is after some more seconds of playing: its round, what is left of a round's time, and whether it ended.
 * A loop begins anew after its last round was seen as long as others.
 */
export function played({ round, rest }, seconds, { min, max, speed, loop }) {
  const all = rest + seconds * speed;
  const steps = Math.floor(all);
  const span = max - min + 1;
  if (round + steps <= max) return { round: round + steps, rest: all - steps, over: false };
  return loop ? { round: min + ((round - min + steps) % span), rest: all - steps, over: false } : { round: max, rest: 0, over: true };
}

function render({ model, el }) {
  const root = element("div", "flatlab-timeline", el);
  const button = (text, title, act) => {
    const made = element("button", "flatlab-timeline-button", root, text);
    Object.assign(made, { type: "button", title, onclick: act });
    return made;
  };
  let now = model.get("value");
  let [playing, before, rest] = [0, 0, 0];
  let held = false; // by a hand
  const play = button("▶", "Play the rounds: curves, clients and the way on the plane move", () => (playing ? stop() : start()));
  const label = element("label", "flatlab-timeline-label", root, "round");
  const slider = element("input", "", label);
  Object.assign(slider, { type: "range", step: 1, title: "Look at the run as it was after this round; at the right end, follow it" });
  slider.setAttribute("data-lm-suppress-shortcuts", "true"); // the notebook takes arrow keys from all but what says so itself
  const readout = element("output", "flatlab-timeline-readout", root);
  const speed = element("select", "flatlab-timeline-button", root);
  speed.title = "Rounds a second";
  for (const one of SPEEDS) element("option", "", speed, `${one}/s`).value = one;
  const loop = button("⟲", "Begin again at the end", () => set("loop", !model.get("loop")));
  const save = element("select", "flatlab-timeline-button", root);
  save.title = "Save the view in front, round by round (GIF, MP4), or all views as one page (HTML)";
  element("option", "", save, "save").value = "save";
  for (const one of model.get("formats")) element("option", "", save, one.toUpperCase()).value = one;
  if (!model.get("formats").length) save.remove();
  save.onchange = () => {
    model.send({ kind: "animate", format: save.value, speed: model.get("speed"), loop: model.get("loop") });
    save.value = "save";
  };
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const look = (round) => {
    now = round;
    slider.value = round;
    readout.textContent = `${round} / ${model.get("max")}`;
    const detail = { run: model.get("run"), round: round >= model.get("max") ? null : round };
    document.dispatchEvent(new CustomEvent(ROUND, { detail }));
  };
  const tell = () => model.get("value") !== now && set("value", now);
  const stop = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    play.textContent = "▶";
    tell();
  };
  const start = () => {
    if (now >= model.get("max")) look(model.get("min"));
    play.textContent = "▮▮";
    [before, rest] = [performance.now(), 0];
    playing = requestAnimationFrame(frame);
  };
  const frame = (time) => {
    const about = Object.fromEntries(["min", "max", "speed", "loop"].map((name) => [name, model.get(name)]));
    const next = played({ round: now, rest }, Math.max(time - before, 0) / 1000, about);
    [before, rest] = [Math.max(time, before), next.rest];
    if (next.round !== now) look(next.round);
    if (next.over) stop();
    else playing = requestAnimationFrame(frame);
  };
  const fit = () => {
    const off = model.get("disabled");
    Object.assign(slider, { min: model.get("min"), max: model.get("max"), disabled: off });
    for (const one of [play, speed, loop, save]) one.disabled = off;
    speed.value = model.get("speed");
    loop.setAttribute("aria-pressed", String(model.get("loop")));
    if (!playing && !held) {
      now = model.get("value");
      slider.value = now;
    }
    readout.textContent = `${now} / ${model.get("max")}`;
  };
  slider.oninput = () => {
    const to = Number(slider.value);
    if (playing) stop();
    held = true;
    look(to);
  };
  slider.onchange = () => {
    held = false;
    tell();
  };
  speed.onchange = () => set("speed", Number(speed.value));
  const heard = (said, buffers) => {
    if (said.kind !== "file") return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([buffers[0]]));
    link.download = `flatlab.${said.format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const changes = "change:value change:min change:max change:disabled change:speed change:loop";
  model.on(changes, fit);
  model.on("msg:custom", heard);
  fit();
  if (model.get("moving")) start();
  return () => {
    cancelAnimationFrame(playing);
    model.off(changes, fit);
    model.off("msg:custom", heard);
  };
}

export default { render };
