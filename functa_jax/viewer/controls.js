/* The gallery, and the sliders of directions and of single numbers. */

// Thumbnails have at most 32 pixels a side, and fewer where the network is large, so that 64 of
// them are there in about a second.
const SIDE = Math.min(32, Math.max(12, Math.sqrt(2e9 / (64 * COST))));
const [ROWS, COLUMNS] = [HEIGHT, WIDTH].map((side) =>
  Math.max(1, Math.round(side / Math.max(1, Math.max(HEIGHT, WIDTH) / SIDE))),
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
  const input = document.createElement("input"), output = document.createElement("span");
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
  const share = (100 * data.shares[k]).toFixed(1);
  const made = slider(element("directions"), `${k + 1}: ${share} %`, (sigma) => {
    state.sigmas[k] = Math.abs(sigma) < 0.05 ? 0 : sigma;
    latentChanged();
  });
  Object.assign(made.input, { min: -4, max: 4, value: 0 });
  made.input.setAttribute("aria-label", `Principal direction ${k + 1}, ${share} % of variance, in standard deviations`);
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

element("slicing").hidden = DEPTH === 1;
element("slice").max = DEPTH - 1;
element("slice").value = state.slice;
element("slice").oninput = () => {
  state.slice = element("slice").valueAsNumber;
  native = psnr = null;
  showSlice();
  refresh();
};
function showSlice() {
  element("sliced").textContent = `${state.slice + 1} of ${DEPTH}`;
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
