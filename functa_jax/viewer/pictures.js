/* The decoded image, its original, the lines over it, and what is said about them. */

const picture = element("picture"), original = element("original"), overlay = element("overlay");
let rendering = false, outdated = false, coarse = false, thumbnails = false;

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
  const { top, left, size } = state.view, now = latent, number = state.slice;
  const pass = (block) => {
    const rows = Math.ceil(picture.height / block), columns = Math.ceil(picture.width / block);
    const context = picture.getContext("2d");
    context.imageSmoothingEnabled = false;
    const slice = sliceAt(number);
    const rectangle = { top, left, height: size, width: size, rows, columns, slice };
    const [dy, dx] = [picture.height / rows, picture.width / columns];
    return decodeStrips(now, rectangle, (colours, from, to) => {
      const strip = painted(colours, to - from, columns);
      const edge = Math.floor(from * dy), end = Math.ceil(to * dy);
      context.drawImage(strip, 0, edge, columns * dx, end - edge);
    });
  };
  const measured = async () => {
    if (native) return drawNative(); // over strips that came after the box was ticked
    const image = await decode(now, HEIGHT, WIDTH, true, number);
    if (!image || now !== latent || number !== state.slice) return;
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
  if (!thumbnails) return; // the last passes take longer than they do; begin.js comes back
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

const originalOf = (i) => rowOf(originals, i * DEPTH + state.slice, HEIGHT * WIDTH * CHANNELS);

function drawOriginal() {
  if (!originals) return;
  const i = nearer();
  if (i === MEAN) original.getContext("2d").clearRect(0, 0, original.width, original.height);
  else {
    drawPixels(original, painted(originalOf(i), HEIGHT, WIDTH, 255));
    drawLines(original);
  }
}

/** Peak signal-to-noise ratio in dB of an image, not clipped, against the original. */
function quality(image) {
  if (!originals || nearer() === MEAN) return null;
  const truth = originalOf(nearer());
  const error = image.reduce((sum, x, i) => sum + (x - truth[i] / 255) ** 2, 0) / image.length;
  return -10 * Math.log10(Math.max(error, 1e-12));
}

/** Lines between pixels and between cells, if they are asked for. */
function drawLines(canvas) {
  if (!element("lines").checked) return;
  const context = canvas.getContext("2d"), { top, left, size } = state.view;
  const y = (v) => ((v - top) / size) * canvas.height, x = (u) => ((u - left) / size) * canvas.width;
  const lines = (rows, columns, colour) => {
    context.strokeStyle = colour;
    context.beginPath();
    for (let i = Math.ceil(top * rows); i <= (top + size) * rows; i++) {
      context.moveTo(0, y(i / rows));
      context.lineTo(canvas.width, y(i / rows));
    }
    for (let j = Math.ceil(left * columns); j <= (left + size) * columns; j++) {
      context.moveTo(x(j / columns), 0);
      context.lineTo(x(j / columns), canvas.height);
    }
    context.stroke();
  };
  context.lineWidth = Math.max(1, devicePixelRatio);
  if (canvas.width / (WIDTH * size) > 6) lines(HEIGHT, WIDTH, "rgb(128 128 128 / 55%)");
  if (config.grid) lines(GRID, GRID, "rgb(70 150 230 / 90%)");
}

function drawOverlay() {
  const context = overlay.getContext("2d"), { top, left, size } = state.view;
  context.clearRect(0, 0, overlay.width, overlay.height);
  drawLines(overlay);
  const y = (v) => ((v - top) / size) * overlay.height, x = (u) => ((u - left) / size) * overlay.width;
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
  element("psnr").textContent = psnr === null ? "" : `PSNR ${psnr.toFixed(2)} dB, measured at ${WIDTH} × ${HEIGHT}${DEPTH > 1 ? ", of this slice" : ""}`;
  const zoom = 1 / state.view.size;
  element("zoom").textContent = "× " + (zoom < 1e6 ? +zoom.toPrecision(3) : zoom.toExponential(1));
  element("blended").textContent = t.toFixed(2);
  for (const [i, button] of [...element("gallery").children].entries()) {
    const held = "AB".split("").filter((_, end) => state.ends[end] === i).join(" ");
    if (held) button.dataset.end = held;
    else delete button.dataset.end;
    button.setAttribute("aria-pressed", Boolean(held));
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
