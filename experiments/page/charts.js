/* Three charts that answer to the mouse, drawn as SVG; nothing is fetched. */

"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [900, 380, 60, 15, 12, 42];
const numbers = (text) => text.split(" ").map(Number); // "nan" becomes NaN, which leaves a gap

function node(parent, name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function add(parent, name, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  parent.append(made);
  return made;
}

/** Buttons of which one is pressed; `chosen(value)` is told. */
function choice(parent, label, values, chosen) {
  add(parent, "span", { textContent: label });
  const buttons = values.map((value) => {
    const button = add(parent, "button", { textContent: value, type: "button" });
    button.onclick = () => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      chosen(value);
    };
    return button;
  });
  for (const button of buttons) button.setAttribute("aria-pressed", button === buttons[0]);
}

/** An empty SVG with axes: { svg, x, y } of functions from values to places. */
function axes(svg, xs, ys, names, logarithmic = false) {
  svg.replaceChildren();
  const scale = (low, high, from, to, f = (v) => v) => (v) =>
    from + ((f(v) - f(low)) / (f(high) - f(low) || 1)) * (to - from);
  const x = scale(...xs, LEFT, WIDTH - RIGHT);
  const y = scale(...ys, HEIGHT - BOTTOM, TOP, logarithmic ? Math.log10 : undefined);
  for (const value of ticks(...xs)) {
    node(svg, "line", { class: "axis", x1: x(value), x2: x(value), y1: TOP, y2: HEIGHT - BOTTOM });
    node(svg, "text", { x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(value));
  }
  for (const value of logarithmic ? powers(...ys) : ticks(...ys)) {
    node(svg, "line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) });
    node(svg, "text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value));
  }
  node(svg, "text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, names[0]);
  const turned = `rotate(-90 14 ${HEIGHT / 2})`;
  node(svg, "text", { x: 14, y: HEIGHT / 2, "text-anchor": "middle", transform: turned }, names[1]);
  return { x, y };
}

const short = (value) => String(+value.toPrecision(3));

function ticks(low, high) {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function powers(low, high) {
  const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high));
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => 10 ** (first + i));
}

/** A path through points [x, y]; a point that is no number leaves a gap. */
function line(points) {
  let open = false;
  return points
    .map(([x, y]) => {
      if (!Number.isFinite(x + y)) return (open = false), "";
      const word = `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      open = true;
      return word;
    })
    .join("");
}

/** A chart in a box of the page: its controls, its SVG and a line of text. */
function chart(id, label) {
  const box = document.getElementById(id);
  const controls = add(box, "div", { className: "controls" });
  const svg = node(box, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  return { controls, svg, said: add(box, "div", { className: "said" }) };
}

/** Where the pointer is on an SVG, in its own units. */
function place(svg, event) {
  const box = svg.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
}

function sweepChart({ dense, lines }) {
  const { controls, svg, said } = chart("sweep", "Accuracy against density");
  const hidden = new Set();
  let upper = false, dots = [];
  const draw = () => {
    const range = upper ? [dense - 5, dense + 1] : [20, dense + 3];
    const { x, y } = axes(svg, [0, 1], range, ["density: nonzero / all parameters", "test top-1 in %"]);
    const clip = node(svg, "clipPath", { id: "inside" });
    const [width, height] = [WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM];
    node(clip, "rect", { x: LEFT, y: TOP, width, height });
    const inside = node(svg, "g", { "clip-path": "url(#inside)" });
    node(inside, "path", { d: line([[x(0), y(dense)], [x(1), y(dense)]]), stroke: "#999", "stroke-dasharray": "4 3" });
    dots = [];
    for (const { name, colour, points } of lines) {
      if (hidden.has(name)) continue;
      const places = points.map(([density, value]) => [x(density), y(value)]);
      const drawn = node(inside, "path", { d: line(places), stroke: colour });
      points.forEach((point, i) => {
        node(inside, "circle", { cx: places[i][0], cy: places[i][1], r: 3, fill: colour });
        dots.push({ name, point, at: places[i], drawn, low: y(point[2]), high: y(point[3]), inside });
      });
    }
  };
  choice(controls, "", ["all", "upper end"], (value) => ((upper = value !== "all"), draw()));
  for (const { name, colour } of lines) {
    const button = add(controls, "button", { textContent: name, type: "button" });
    button.style.borderLeft = `6px solid ${colour}`;
    button.onclick = () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.style.opacity = hidden.has(name) ? 0.4 : 1;
      draw();
    };
  }
  let mark = null;
  svg.onpointermove = (event) => {
    const [u, v] = place(svg, event);
    const far = (dot) => Math.hypot(dot.at[0] - u, dot.at[1] - v);
    const seen = dots.filter((dot) => dot.at[1] > 0 && dot.at[1] < HEIGHT - BOTTOM);
    if (!seen.length) return;
    const best = seen.reduce((a, b) => (far(b) < far(a) ? b : a));
    for (const { drawn } of dots) drawn.style.strokeWidth = drawn === best.drawn ? 3.5 : 1.6;
    mark?.remove();
    const bar = line([[best.at[0], best.low], [best.at[0], best.high]]);
    mark = node(best.inside, "path", { d: bar, stroke: "#000" });
    const [density, value, low, high] = best.point;
    said.textContent =
      `${best.name} at density ${density.toFixed(2)}: ${value.toFixed(2)} % ` +
      `[${low.toFixed(2)}, ${high.toFixed(2)}]; dense ${dense.toFixed(2)} %`;
  };
  draw();
}

function pathChart({ epochs, layers }) {
  const { controls, svg, said } = chart("path", "Norms of groups against epochs");
  const times = numbers(epochs), names = Object.keys(layers);
  let layer = names[0], kind = "gamma";
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: times.length - 1 });
  slider.value = times.length - 1;
  slider.setAttribute("aria-label", "epoch");
  let cursor = null, x = null;
  const move = () => {
    const step = slider.valueAsNumber, at = x(times[step]);
    for (const [key, value] of Object.entries({ x1: at, x2: at })) cursor.setAttribute(key, value);
    const count = layers[layer].gamma.filter((text) => numbers(text)[step] > 0).length;
    said.textContent =
      `epoch ${times[step].toFixed(1)}: ${count} of the ${layers[layer].gamma.length} groups shown of ` +
      `${layer} are in the support of Γ`;
  };
  const draw = () => {
    const curves = layers[layer][kind].map(numbers);
    const most = 1.05 * Math.max(1e-6, ...curves.flat().filter(Number.isFinite));
    const name = kind === "gamma" ? "norm of each group of Γ" : "norm of each group of W";
    const made = axes(svg, [0, times.at(-1)], [0, most], ["epoch", name]);
    x = made.x;
    curves.forEach((values, i) => {
      const stroke = data.colours[layers[layer].selected[i] ? "selected" : "dropped"];
      const d = line(values.map((value, t) => [x(times[t]), made.y(value)]));
      node(svg, "path", { d, stroke, "stroke-opacity": 0.6 });
    });
    cursor = node(svg, "line", { y1: TOP, y2: HEIGHT - BOTTOM, stroke: "#000" });
    move();
  };
  choice(controls, "layer", names, (value) => ((layer = value), draw()));
  choice(controls, "norms of", ["Γ", "W"], (value) => ((kind = value === "Γ" ? "gamma" : "w"), draw()));
  add(controls, "span", { textContent: "epoch" });
  controls.append(slider);
  slider.oninput = move;
  svg.onpointermove = (event) => {
    const [u] = place(svg, event), off = times.map((time) => Math.abs(x(time) - u));
    slider.value = off.indexOf(Math.min(...off));
    move();
  };
  draw();
}

function landscapeChart(rows) {
  const { controls, svg, said } = chart("landscape", "Loss along the gradient against steps");
  const names = { none: "without normalisation (orange)", batch: "batch normalisation (blue)" };
  const measures = { "loss": "loss", "gradient's change": "change", "β": "beta" };
  const rates = [...new Set(rows.map((row) => row.rate))];
  const ends = (row, what) => (what === "beta" ? ["beta"] : [`${what}_low`, `${what}_high`]);
  let rate = rates[0], measure = "loss", drawn = [];
  const draw = () => {
    const what = measures[measure], shown = rows.filter((row) => row.rate === rate);
    drawn = shown.map((row) => ({ row, step: numbers(row.step), curves: ends(row, what).map((k) => numbers(row[k])) }));
    const all = drawn.flatMap(({ curves }) => curves.flat()).filter((v) => v > 0 && Number.isFinite(v));
    const steps = drawn.flatMap(({ step }) => step);
    const name = what === "beta" ? "effective β" : `${measure} along the gradient`;
    const range = [Math.min(...all), Math.max(...all)];
    const { x, y } = axes(svg, [0, Math.max(...steps)], range, ["step", name], true);
    for (const { row, step, curves } of drawn) {
      const [stroke, high] = [data.colours[row.norm], curves.at(-1)];
      const places = (values) => values.map((value, i) => [x(step[i]), y(Math.max(value, range[0]))]);
      if (curves.length > 1) {
        const finite = places(curves[0]).concat(places(high).reverse()).filter(([u, v]) => Number.isFinite(u + v));
        node(svg, "path", { d: line(finite) + "Z", style: `fill: ${stroke}; fill-opacity: .3` });
      }
      for (const values of curves) node(svg, "path", { d: line(places(values)), stroke, "stroke-width": 1 });
    }
    said.textContent = drawn
      .map(({ row }) => names[row.norm] + (row.diverged ? ": diverged" : ""))
      .join("; ");
  };
  choice(controls, "learning rate", rates, (value) => ((rate = value), draw()));
  choice(controls, "measure", Object.keys(measures), (value) => ((measure = value), draw()));
  svg.onpointermove = (event) => {
    const [u] = place(svg, event);
    said.textContent = drawn
      .map(({ row, step, curves }) => {
        const at = Math.round(((u - LEFT) / (WIDTH - LEFT - RIGHT)) * (step.length - 1));
        const i = Math.min(Math.max(at, 0), step.length - 1);
        return `step ${step[i]}, ${names[row.norm]}: ${curves.map((c) => short(c[i])).join(" to ")}`;
      })
      .join("; ");
  };
  draw();
}

for (const [name, draw] of Object.entries({ sweep: sweepChart, path: pathChart, landscape: landscapeChart })) {
  if (data[name]) draw(data[name]);
  else document.getElementById(name)?.remove();
}
