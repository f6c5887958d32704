// What a landscape answers to mouse, wheel and keys. `scene` is the `Scene` of landscape.js, which follows.

const TURN = 0.5; // degrees a pixel

function listen(scene, canvas) {
  let from = null; // where the button was pressed
  const here = () => scene.panels.find((panel) => panel.canvas === canvas);
  const solid = () => scene.model.get("mode") === "3d";
  const at = (event) => {
    const corner = canvas.getBoundingClientRect();
    return [event.clientX - corner.left, event.clientY - corner.top];
  };
  canvas.onpointerdown = (event) => {
    from = [event.clientX, event.clientY];
    scene.turn(false);
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointerup = () => {
    if (from && solid()) scene.set("camera", scene.camera);
    from = null;
  };
  canvas.onpointermove = (event) => {
    const panel = here();
    if (!panel) return;
    const by = from && [event.clientX - from[0], event.clientY - from[1]];
    if (by && solid()) scene.rotate(-TURN * by[0], TURN * by[1]);
    else if (by && scene.lens.size < 1) scene.shift(-by[0] / panel.box.width, by[1] / panel.box.height);
    if (by) from = [event.clientX, event.clientY];
    if (!by || !solid()) point(scene, panel, ...at(event));
    scene.redraw();
  };
  canvas.onpointerleave = () => {
    scene.cursor = scene.model.get("cursor");
    scene.marked = null;
    scene.redraw();
  };
  canvas.ondblclick = () => scene.look({ x: 0.5, y: 0.5, size: 1 });
  // A page that is scrolled past the picture must not be caught by it: the wheel is its own once it was clicked.
  canvas.addEventListener("wheel", (event) => {
    const panel = here();
    if (!panel || (document.activeElement !== canvas && !event.ctrlKey)) return;
    event.preventDefault();
    const [x, y] = at(event);
    const { box } = panel;
    const spot = solid() ? undefined : [scene.shareX(box.fromX(x), panel), scene.shareY(box.fromY(y), panel)];
    scene.look(magnified(scene.lens, 1.0015 ** event.deltaY, spot));
  }, { passive: false });
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const act = { "+": () => scene.look(magnified(scene.lens, 0.8)), "-": () => scene.look(magnified(scene.lens, 1.25)),
      "0": () => scene.look({ x: 0.5, y: 0.5, size: 1 }), f: () => scene.fill() }[event.key];
    if (!(step || act) || !here() || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would move to another cell
    if (act) act();
    else if (solid()) {
      scene.rotate(5 * step[0], 5 * step[1]);
      scene.set("camera", scene.camera);
    } else move(scene, here(), step);
  };
}

/** Move the crosshair by a step of the grid. */
function move(scene, panel, step) {
  const [x, y] = scene.cursor.length ? scene.cursor : [0, 0];
  scene.cursor = [[x, panel.x, panel.nx, step[0]], [y, panel.y, panel.ny, step[1]]].map(([now, range, count, by]) =>
    coordinate(Math.min(Math.max((nearest(now, range, count) ?? 0) + by, 0), count - 1), range, count),
  );
  scene.set("cursor", scene.cursor);
}

/** The crosshair and the mark that are nearest to a place on the canvas. */
function point(scene, panel, x, y) {
  let best = 10; // pixels
  scene.marked = null;
  for (const spot of panel.spots) {
    const away = Math.hypot(spot.at[0] - x, spot.at[1] - y);
    if (away < best) [best, scene.marked] = [away, spot.mark];
  }
  if (scene.model.get("mode") === "2d") {
    const { box } = panel;
    const inside = x >= box.left && x <= box.left + box.width && y >= box.top && y <= box.top + box.height;
    scene.cursor = inside ? [box.fromX(x), box.fromY(y)] : [];
    return;
  }
  let [closest, found] = [18, []];
  for (let j = 0; j < panel.ny; j++) {
    for (let i = 0; i < panel.nx; i++) {
      const [a, b] = [coordinate(i, panel.x, panel.nx), coordinate(j, panel.y, panel.ny)];
      const height = panel.scale.place(panel[scene.model.get("value")][j * panel.nx + i]);
      const [right, down, near] = panel.look(toCube(a, panel.x), toCube(b, panel.y), height);
      const away = Math.hypot(right - x, down - y) - 0.05 * near; // of two equally close, the one in front
      if (away < closest) [closest, found] = [away, [a, b]];
    }
  }
  scene.cursor = found;
}
