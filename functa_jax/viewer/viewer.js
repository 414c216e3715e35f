/* The page: what the user picks and slides becomes a latent and a visible rectangle; workers
   decode it, coarse pixels first, and the canvas shows each strip of pixels as it comes. */

"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const config = data.config;
const [HEIGHT, WIDTH] = data.resolution;
const [CHANNELS, CELL] = [config.channels, config.latent_dim];
const GRID = config.grid || 1;
const NUMBERS = CELL * GRID * GRID;
const COUNT = data.labels.length;
const PAGE = 32; // sliders of single numbers at a time
const STRIP = 3e7; // multiplications in one piece of work: some milliseconds
const MEAN = COUNT; // the mean latent is one more image, without an original

const floats = (text) => new Float32Array(bytes(text).buffer);
function bytes(text) {
  const binary = atob(text);
  const result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) result[i] = binary.charCodeAt(i);
  return result;
}
const rowOf = (rows, i, size = NUMBERS) => rows.subarray(i * size, (i + 1) * size);

const latents = floats(data.latents), mean = floats(data.mean), std = floats(data.std);
const vectors = floats(data.directions), deviations = floats(data.deviations);
const originals = data.originals && bytes(data.originals);
const params = Object.fromEntries(
  Object.entries(data.params).map(([name, text]) => [name, floats(text)]),
);
for (const name in data) if (typeof data[name] === "string" && data[name].length > 1e5) delete data[name];
delete data.params;

// ---- workers ----

/** Decoders in the background; work waits in a queue, so that what is outdated can be dropped. */
class Pool {
  constructor() {
    const url = URL.createObjectURL(
      new Blob([element("worker").textContent], { type: "text/javascript" }),
    );
    const count = Math.min(Math.max((navigator.hardwareConcurrency || 2) - 1, 1), 8);
    this.queue = [];
    this.idle = Array.from({ length: count }, () => this.start(url));
    this.versions = new WeakMap(); // latent -> number, by which workers know it again
    this.latest = 0;
  }

  start(url) {
    const worker = new Worker(url);
    worker.onmessage = ({ data: { colours } }) => {
      const { resolve } = worker.job;
      worker.job = null;
      this.idle.push(worker);
      this.next();
      resolve(colours);
    };
    worker.onerror = (event) => fail(`A worker failed: ${event.message || "it could not start"}`);
    worker.postMessage({ config, params });
    return worker;
  }

  /** Colours of a strip of pixels (decoder.js, pixelCentres), or null if it was dropped. */
  strip(latent, strip, urgent = true) {
    if (!this.versions.has(latent)) this.versions.set(latent, ++this.latest);
    const version = this.versions.get(latent);
    return new Promise((resolve) => {
      const job = { latent, version, strip, resolve, urgent };
      const at = urgent ? this.queue.findIndex((other) => !other.urgent) : -1;
      this.queue.splice(at < 0 ? this.queue.length : at, 0, job);
      this.next();
    });
  }

  next() {
    while (this.idle.length && this.queue.length) {
      const worker = this.idle.pop();
      worker.job = this.queue.shift();
      const { latent, version, strip } = worker.job;
      worker.postMessage({ latent, version, strip });
    }
  }

  /** Forget the urgent work that has not begun. */
  drop() {
    const dropped = this.queue.filter((job) => job.urgent);
    this.queue = this.queue.filter((job) => !job.urgent);
    for (const job of dropped) job.resolve(null);
  }
}

function fail(message) {
  element("about").textContent = message;
  element("about").className = "bad";
}

const pool = new Pool();
const COST = config.width * (config.width * (config.depth - 2) + 20 * config.depth); // of a point

/** Decode a rectangle in strips; each is told to `shown(colours, from, to)`. False if dropped. */
async function decodeStrips(latent, rectangle, shown, urgent) {
  const { rows, columns } = rectangle;
  const height = Math.max(1, Math.min(rows, Math.floor(STRIP / (COST * columns))));
  const work = [];
  for (let from = 0; from < rows; from += height) {
    const to = Math.min(from + height, rows);
    const strip = pool.strip(latent, { ...rectangle, from, to }, urgent);
    work.push(strip.then((colours) => (colours ? (shown(colours, from, to), true) : false)));
  }
  return (await Promise.all(work)).every(Boolean);
}

/** The whole image as Float32Array (rows * columns * channels). */
async function decode(latent, rows, columns, urgent = true) {
  const result = new Float32Array(rows * columns * CHANNELS);
  const rectangle = { top: 0, left: 0, height: 1, width: 1, rows, columns };
  const place = (colours, from) => result.set(colours, from * columns * CHANNELS);
  return (await decodeStrips(latent, rectangle, place, urgent)) ? result : null;
}

/** Colours in [0, 1] (times `white`) as a canvas. */
function painted(colours, rows, columns, white = 1) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let p = 0; p < rows * columns; p++) {
    for (let c = 0; c < 3; c++) {
      const channel = CHANNELS < 3 ? Math.min(c, CHANNELS - 1) : c;
      image.data[4 * p + c] = Math.round((255 / white) * colours[p * CHANNELS + channel]);
    }
    image.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// ---- state ----

const state = {
  ends: [0, Math.min(1, COUNT - 1)], // images A and B
  blend: 0,
  sigmas: new Float32Array(deviations.length),
  edits: new Float32Array(NUMBERS),
  view: { top: 0, left: 0, size: 1 }, // the visible part: `size` of the image's height and width
  cell: 0,
};
let latent = new Float32Array(NUMBERS);
let native = null; // the current latent's image at the resolution of the training images
let psnr = null;

const imageLatent = (i) => (i === MEAN ? mean : rowOf(latents, i));
const nameOf = (i) =>
  i === MEAN ? "mean" : `no. ${data.ids[i]}` + (data.labels[i] < 0 ? "" : `, label ${data.labels[i]}`);
const nearer = () => state.ends[state.blend > 0.5 ? 1 : 0];

function latentChanged() {
  const [a, b] = state.ends.map(imageLatent);
  latent = Float32Array.from(a, (x, i) => x + state.blend * (b[i] - x) + state.edits[i]);
  state.sigmas.forEach((sigma, k) => {
    const direction = rowOf(vectors, k), amount = sigma * deviations[k];
    if (amount) for (let i = 0; i < NUMBERS; i++) latent[i] += amount * direction[i];
  });
  native = psnr = null;
  showSliders();
  refresh();
}

// ---- the pictures ----

const picture = element("picture"), original = element("original"), overlay = element("overlay");
let rendering = false, outdated = false, coarse = false;

/** Draw everything anew; while a drawing is under way, it is begun again after its first pass. */
async function refresh() {
  describe();
  drawOriginal();
  drawOverlay();
  if (native) drawNative();
  outdated = true;
  if (rendering) return coarse || pool.drop(); // a first pass ends: else a drag would show nothing
  rendering = true;
  while (outdated) {
    outdated = false;
    await render();
  }
  rendering = false;
}

async function render() {
  const { top, left, size } = state.view, now = latent;
  const pass = (block) => {
    const rows = Math.ceil(picture.height / block), columns = Math.ceil(picture.width / block);
    const context = picture.getContext("2d");
    context.imageSmoothingEnabled = false;
    const rectangle = { top, left, height: size, width: size, rows, columns };
    const [dy, dx] = [picture.height / rows, picture.width / columns];
    return decodeStrips(now, rectangle, (colours, from, to) => {
      const strip = painted(colours, to - from, columns);
      const edge = Math.floor(from * dy), end = Math.ceil(to * dy);
      context.drawImage(strip, 0, edge, columns * dx, end - edge);
    });
  };
  const measured = async () => {
    if (native) return;
    const image = await decode(now, HEIGHT, WIDTH);
    if (!image || now !== latent) return;
    native = image;
    psnr = quality(image);
    describe();
    if (element("native").checked) drawNative();
  };
  if (element("native").checked) return measured();
  // First as many pixels as take about 30 ms, then four times as many, until there are enough.
  let block = 1;
  while (COST * (picture.width / block) * (picture.height / block) > 1.5e8) block *= 2;
  coarse = true;
  await pass(block);
  coarse = false;
  if (!outdated) await measured();
  for (block /= 2; block >= 1 && !outdated; block /= 2) await pass(block);
}

function drawNative() {
  if (element("native").checked) drawPixels(picture, painted(native, HEIGHT, WIDTH));
}

/** The visible part of an image with large pixels. */
function drawPixels(canvas, image) {
  const { top, left, size } = state.view, context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(
    image, left * WIDTH, top * HEIGHT, size * WIDTH, size * HEIGHT, 0, 0, canvas.width, canvas.height,
  );
}

const originalOf = (i) => rowOf(originals, i, HEIGHT * WIDTH * CHANNELS);

function drawOriginal() {
  if (!originals) return;
  const i = nearer();
  if (i === MEAN) original.getContext("2d").clearRect(0, 0, original.width, original.height);
  else drawPixels(original, painted(originalOf(i), HEIGHT, WIDTH, 255));
}

/** Peak signal-to-noise ratio in dB of an image, not clipped, against the original. */
function quality(image) {
  if (!originals || nearer() === MEAN) return null;
  const truth = originalOf(nearer());
  const error = image.reduce((sum, x, i) => sum + (x - truth[i] / 255) ** 2, 0) / image.length;
  return -10 * Math.log10(Math.max(error, 1e-12));
}

function drawOverlay() {
  const context = overlay.getContext("2d"), { top, left, size } = state.view;
  context.clearRect(0, 0, overlay.width, overlay.height);
  const y = (v) => ((v - top) / size) * overlay.height, x = (u) => ((u - left) / size) * overlay.width;
  const lines = (rows, columns, colour) => {
    context.strokeStyle = colour;
    context.beginPath();
    for (let i = Math.ceil(top * rows); i <= (top + size) * rows; i++) {
      context.moveTo(0, y(i / rows));
      context.lineTo(overlay.width, y(i / rows));
    }
    for (let j = Math.ceil(left * columns); j <= (left + size) * columns; j++) {
      context.moveTo(x(j / columns), 0);
      context.lineTo(x(j / columns), overlay.height);
    }
    context.stroke();
  };
  context.lineWidth = Math.max(1, devicePixelRatio);
  if (element("lines").checked) {
    if (overlay.width / (WIDTH * size) > 6) lines(HEIGHT, WIDTH, "rgb(128 128 128 / 55%)");
    if (config.grid) lines(GRID, GRID, "rgb(70 150 230 / 90%)");
  }
  if (config.grid && element("single").open) {
    const row = Math.floor(state.cell / GRID), column = state.cell % GRID;
    context.lineWidth = 3 * devicePixelRatio;
    context.strokeStyle = "rgb(240 150 30)";
    const side = [overlay.width / GRID / size, overlay.height / GRID / size];
    context.strokeRect(x(column / GRID), y(row / GRID), ...side);
  }
}

function describe() {
  const [a, b] = state.ends, t = state.blend;
  const changed = state.sigmas.some(Boolean) || state.edits.some(Boolean);
  const name = t === 0 ? nameOf(a) : t === 1 ? nameOf(b) : "between A and B";
  element("what").textContent = "Decoded: " + name + (changed ? ", changed" : "");
  element("whose").textContent = nearer() === MEAN ? "No original" : `Original: ${nameOf(nearer())}`;
  element("psnr").textContent = psnr === null ? "" : `PSNR ${psnr.toFixed(2)} dB`;
  const zoom = 1 / state.view.size;
  element("zoom").textContent = "× " + (zoom < 1e6 ? +zoom.toPrecision(3) : zoom.toExponential(1));
  element("blended").textContent = t.toFixed(2);
  for (const [i, button] of [...element("gallery").children].entries()) {
    const held = "AB".split("").filter((_, end) => state.ends[end] === i).join(" ");
    if (held) button.dataset.end = held;
    else delete button.dataset.end;
  }
}

function resize() {
  for (const canvas of [picture, overlay, original]) {
    const frame = canvas.parentElement;
    frame.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
    const width = Math.max(1, Math.round(frame.clientWidth * Math.min(devicePixelRatio, 2)));
    const height = Math.max(1, Math.round((width * HEIGHT) / WIDTH));
    if (canvas.width === width && canvas.height === height) continue;
    const before = canvas.width && canvas.height && canvas.cloneNode();
    if (before) before.getContext("2d").drawImage(canvas, 0, 0);
    [canvas.width, canvas.height] = [width, height]; // which empties it
    if (before) canvas.getContext("2d").drawImage(before, 0, 0, width, height);
  }
  refresh();
}

// ---- zooming and moving ----

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
    fingers.delete(event.pointerId);
    if (kind === "pointerup" && moved < 0.01 && config.grid) pickCell(...at(event));
  });
}
picture.addEventListener("keydown", (event) => {
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

// ---- gallery and sliders ----

// Thumbnails have at most 32 pixels a side: 64 larger ones would keep a phone busy for long.
const [ROWS, COLUMNS] = [HEIGHT, WIDTH].map((side) =>
  Math.max(1, Math.round(side / Math.max(1, Math.max(HEIGHT, WIDTH) / 32))),
);

function makeGallery() {
  for (let i = 0; i <= COUNT; i++) {
    const button = document.createElement("button"), caption = document.createElement("span");
    caption.textContent = i === MEAN ? "mean" : data.labels[i] < 0 ? `${data.ids[i]}` : data.labels[i];
    button.setAttribute("aria-label", i === MEAN ? "The mean latent" : `Test image ${nameOf(i)}`);
    button.title = nameOf(i);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [COLUMNS, ROWS];
    button.append(canvas, caption);
    button.onclick = () => {
      state.ends[Number(document.querySelector("[name=end]:checked").value)] = i;
      latentChanged();
    };
    element("gallery").append(button);
  }
}

async function drawGallery() {
  await Promise.all(
    [...element("gallery").children].map(async (button, i) => {
      const image = await decode(imageLatent(i), ROWS, COLUMNS, false);
      const thumbnail = painted(image, ROWS, COLUMNS);
      button.firstChild.getContext("2d").drawImage(thumbnail, 0, 0);
    }),
  );
}

function slider(parent, name, changed) {
  const label = document.createElement("label"), caption = document.createElement("span");
  const input = document.createElement("input"), output = document.createElement("output");
  label.className = "slider";
  caption.textContent = name;
  input.type = "range";
  input.step = "any";
  label.append(caption, input, output);
  parent.append(label);
  input.oninput = () => changed(input.valueAsNumber);
  return { label, caption, input, output };
}

const directionSliders = [...deviations].map((_, k) => {
  const made = slider(element("directions"), `${k + 1}`, (sigma) => {
    state.sigmas[k] = Math.abs(sigma) < 0.05 ? 0 : sigma;
    latentChanged();
  });
  Object.assign(made.input, { min: -4, max: 4, value: 0 });
  made.input.setAttribute("aria-label", `Principal direction ${k + 1}, in standard deviations`);
  return made;
});

const firstNumber = () => state.cell * CELL + PAGE * Number(element("page").value);
const numberSliders = Array.from({ length: Math.min(PAGE, CELL) }, (_, k) =>
  slider(element("numbers"), "", (value) => {
    const i = firstNumber() + k;
    state.edits[i] += value - latent[i];
    latentChanged();
  }),
);

function showSliders() {
  directionSliders.forEach(({ input, output }, k) => {
    if (document.activeElement !== input) input.value = state.sigmas[k];
    output.textContent = `${state.sigmas[k] < 0 ? "−" : ""}${Math.abs(state.sigmas[k]).toFixed(2)}`;
  });
  numberSliders.forEach(({ label, caption, input, output }, k) => {
    const i = firstNumber() + k, number = i - state.cell * CELL + 1;
    label.hidden = number > CELL;
    if (label.hidden) return;
    const reach = 4 * (std[i] || 1), value = latent[i];
    caption.textContent = number;
    input.setAttribute("aria-label", `Number ${number}`);
    input.min = Math.min(mean[i] - reach, value);
    input.max = Math.max(mean[i] + reach, value);
    if (document.activeElement !== input) input.value = value;
    output.textContent = value.toFixed(3).replace("-", "−");
  });
}

function pickCell(v, u) {
  const { top, left, size } = state.view;
  const place = (x) => Math.min(Math.max(Math.floor(x * GRID), 0), GRID - 1);
  showCell(place(top + v * size), place(left + u * size));
}

function showCell(row, column) {
  state.cell = row * GRID + column;
  [element("row").value, element("column").value] = [row + 1, column + 1];
  element("single").open = true;
  showSliders();
  drawOverlay();
}

function makeNumbers() {
  for (let from = 0; from < CELL; from += PAGE) {
    const last = Math.min(from + PAGE, CELL);
    element("page").append(new Option(`${from + 1} to ${last} of ${CELL}`, from / PAGE));
  }
  element("pager").hidden = CELL <= PAGE;
  element("cell").hidden = !config.grid;
  element("page").onchange = showSliders;
  for (const id of ["row", "column"]) {
    element(id).max = GRID;
    element(id).onchange = () => {
      const [row, column] = ["row", "column"].map((other) =>
        Math.min(Math.max(Math.round(element(other).valueAsNumber) || 1, 1), GRID),
      );
      showCell(row - 1, column - 1);
    };
  }
}

element("blend").oninput = () => {
  state.blend = element("blend").valueAsNumber;
  latentChanged();
};
element("reset").onclick = () => {
  state.blend = 0;
  element("blend").value = 0;
  state.sigmas.fill(0);
  state.edits.fill(0);
  for (const { input } of directionSliders) input.value = 0;
  latentChanged();
};

// ---- begin ----

const grids = config.grid ? `${GRID} × ${GRID} cells of ${CELL} numbers` : `${CELL} numbers`;
element("title").textContent = `functa: ${data.name}`;
element("about").textContent =
  `${grids} per image, ${WIDTH} × ${HEIGHT} pixels; a SIREN of width ${config.width} and depth ` +
  `${config.depth}, weights ${data.hash}, decoded in this page.`;
if (!originals) {
  element("beside").hidden = true;
  element("pictures").classList.add("alone");
}
makeGallery();
makeNumbers();
latentChanged();
new ResizeObserver(resize).observe(picture.parentElement);
resize();

/** For scripts and tests: `await viewer.ready`, `await viewer.decode(latent, side)`. */
window.viewer = {
  ready: drawGallery(),
  decode: (numbers, rows, columns = rows) => decode(Float32Array.from(numbers), rows, columns, false),
  look,
  state,
  get latent() { return latent; },
  get psnr() { return psnr; },
  get busy() { return rendering; },
};
