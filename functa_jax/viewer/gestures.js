/* Zooming and moving by wheel, fingers and keys. */

/** Show `size` of the image's sides, with the point (y, x) of it at (v, u) of the canvas. */
function look(size, y, x, v = 0.5, u = 0.5) {
  size = Math.min(1, Math.max(size, 1e-12)); // below, coordinates have no digits left
  const within = (edge) => Math.min(Math.max(edge, 0), 1 - size);
  state.view = { size, top: within(y - v * size), left: within(x - u * size) };
  refresh();
}

function at(event) {
  const box = picture.getBoundingClientRect();
  return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
}

function zoomBy(factor, v = 0.5, u = 0.5) {
  const { top, left, size } = state.view;
  look(size / factor, top + v * size, left + u * size, v, u);
}

picture.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoomBy(Math.exp((-event.deltaY * lines) / 400), ...at(event));
  },
  { passive: false },
);

const fingers = new Map(); // pointer id -> (v, u) on the canvas
let moved = 0;
picture.addEventListener("pointerdown", (event) => {
  if (event.button) return; // the left one, or a finger
  picture.setPointerCapture(event.pointerId);
  if (!fingers.size) moved = 0;
  fingers.set(event.pointerId, at(event));
});
picture.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return;
  const before = [...fingers.values()];
  fingers.set(event.pointerId, at(event));
  const after = [...fingers.values()];
  const middle = (points) => [0, 1].map((i) => points.reduce((s, p) => s + p[i], 0) / points.length);
  const spread = (points) =>
    points.length < 2 ? 1 : Math.hypot(points[0][0] - points[1][0], points[0][1] - points[1][1]);
  const { top, left, size } = state.view, [v, u] = middle(before);
  moved += Math.hypot(after[0][0] - before[0][0], after[0][1] - before[0][1]) + (after.length - 1);
  const factor = spread(after) / Math.max(spread(before), 1e-6);
  look(size / factor, top + v * size, left + u * size, ...middle(after));
});
for (const kind of ["pointerup", "pointercancel"]) {
  picture.addEventListener(kind, (event) => {
    if (!fingers.delete(event.pointerId)) return;
    if (kind === "pointerup" && moved < 0.01 && config.grid) pickCell(...at(event));
  });
}
picture.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
  const { top, left, size } = state.view, middle = [top + size / 2, left + size / 2];
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (step) look(size, middle[0] + (step[0] * size) / 8, middle[1] + (step[1] * size) / 8);
  else if (event.key === "+" || event.key === "=") zoomBy(1.5);
  else if (event.key === "-") zoomBy(1 / 1.5);
  else if (event.key === "0") look(1, 0.5, 0.5);
  else return;
  event.preventDefault();
});
element("in").onclick = () => zoomBy(2);
element("out").onclick = () => zoomBy(1 / 2);
element("fit").onclick = () => look(1, 0.5, 0.5);
element("native").onchange = element("lines").onchange = refresh;
element("single").ontoggle = refresh;
