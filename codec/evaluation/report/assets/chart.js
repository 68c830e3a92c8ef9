// Axes, lines and marks in an SVG, with a cursor that follows the pointer and the arrow keys. Knows nothing of codecs.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 54, right: 14, top: 10, bottom: 42 };
const REACH = 32; // pixels from a mark within which the pointer finds it

const SHAPES = [
  "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z", // circle
  "M-3.3 -3.3h6.6v6.6h-6.6z", // square
  "M0 -4.4L4.2 3.2H-4.2z", // triangle
  "M0 -4.8L4.4 0L0 4.8L-4.4 0z", // diamond
  "M0 4.4L4.2 -3.2H-4.2z", // wedge, a triangle on its tip
];

function svgNode(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
}

function htmlNode(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function curveClass(series) {
  return `curve c${series.style % 8} ${series.kind}`;
}

function markNode(series, x, y) {
  return svgNode("path", {
    class: "mark",
    d: SHAPES[series.style % SHAPES.length],
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
  });
}

/** Round positions between low and high, about `count` of them. */
function linearTicks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.99);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9) + 1e-12; i++) ticks.push(i * step);
  return ticks;
}

/** Positions 1, 2, 5 of each decade; all nine where the range is too short for three of those. */
function logTicks(low, high) {
  const within = (multiples) => {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of multiples) {
        const tick = Number((m * 10 ** e).toPrecision(3));
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    return ticks;
  };
  for (const multiples of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
    const ticks = within(multiples);
    if (ticks.length >= 4) return ticks;
  }
  return linearTicks(low, high, 4);
}

function tickText(value) {
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}

/** Map [low, high] to pixels [from, to]. */
function makeScale(values, log, from, to, ticks) {
  const f = log ? Math.log : (v) => v;
  let [low, high] = [f(Math.min(...values)), f(Math.max(...values))];
  const pad = (high - low || Math.abs(high) * 0.1 || 1) * 0.04;
  [low, high] = [low - pad, high + pad];
  const at = (value) => from + ((f(value) - low) / (high - low)) * (to - from);
  const [first, last] = log ? [Math.exp(low), Math.exp(high)] : [low, high];
  return { at, first, last, ticks: log ? logTicks(first, last) : linearTicks(first, last, ticks) };
}

/**
 * A chart in `host`. `describe()` returns what to draw, anew at every `draw()`:
 *   label   for those who do not see it
 *   x, y    {label, log}
 *   zero    draw the line y = 0
 *   levels  [{y, text}], dashed horizontal lines; may be left out
 *   series  [{name, style, kind, line, points: [{x, y, from, to, text, tip}], rules: [{x, text, tip}]}]
 * where `from` and `to` span a bar, a rule is a vertical line without y, and `tip` is [title, subtitle, [[name, value]...]].
 */
class Chart {
  constructor(host, describe) {
    this.host = host;
    this.describe = describe;
    this.hits = []; // {x, y, series: place, tip, group}
    this.current = null;
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    this.tip = htmlNode("div", { class: "tip", role: "status" });
    this.tip.hidden = true;
    host.append(this.tip);
    host.addEventListener("pointermove", (event) => this.follow(event));
    host.addEventListener("pointerdown", (event) => this.follow(event));
    host.addEventListener("pointerleave", () => this.show(null));
    host.addEventListener("blur", () => this.show(null));
    host.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => {
      if (host.clientWidth !== this.width) this.draw();
    }).observe(host);
  }

  draw() {
    const spec = this.describe();
    this.width = this.host.clientWidth;
    if (!this.width) return;
    const height = Math.round(Math.min(Math.max(this.width * 0.6, 300), 540));
    this.svg?.remove();
    this.svg = svgNode("svg", { viewBox: `0 0 ${this.width} ${height}`, height, "aria-hidden": "true" });
    this.host.prepend(this.svg);
    this.host.setAttribute("aria-label", `${spec.label}. Arrow keys walk through its points.`);
    this.hits = [];
    this.show(null);
    const points = spec.series.flatMap((series) => series.points);
    const rules = spec.series.flatMap((series) => series.rules ?? []);
    if (!points.length && !rules.length) {
      this.svg.append(svgNode("text", { x: this.width / 2, y: height / 2, "text-anchor": "middle" }, spec.empty));
      return;
    }
    const plot = { left: MARGIN.left, right: this.width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    const spans = points.flatMap((p) => [p.x, p.from ?? p.x, p.to ?? p.x]);
    const x = makeScale(spans.length ? spans : rules.map((r) => r.x), spec.x.log, plot.left, plot.right, plot.right / 90);
    const levels = spec.levels ?? [];
    const ys = [...points, ...levels].map((p) => p.y).concat(spec.zero || !points.length ? [0] : []);
    const y = makeScale(ys, false, plot.bottom, plot.top, height / 56);
    this.drawAxes(spec, plot, x, y);
    this.texts = []; // to be put where there is room, once all marks have their places
    this.rules = 0;
    spec.series.forEach((series, place) => this.drawSeries(series, place, plot, x, y));
    for (const level of levels) this.drawLevel(level, plot, y);
    this.placeTexts(plot);
    this.cursor = svgNode("circle", { class: "cursor", r: 7 });
    this.cursor.style.display = "none";
    this.svg.append(this.cursor);
  }

  drawAxes(spec, plot, x, y) {
    const { left, right, top, bottom } = plot;
    const add = (name, attributes, text) => this.svg.append(svgNode(name, attributes, text));
    for (const tick of y.ticks) {
      const at = Math.round(y.at(tick));
      add("line", { class: spec.zero && tick === 0 ? "grid zero" : "grid", x1: left, x2: right, y1: at, y2: at });
      add("text", { x: left - 7, y: at + 4, "text-anchor": "end", class: "tick-y" }, tickText(tick));
    }
    let free = -Infinity; // from here on there is room for a number
    for (const tick of x.ticks) {
      const at = Math.round(x.at(tick));
      add("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom });
      const half = 3.5 * tickText(tick).length + 2;
      if (at - half < free) continue;
      add("text", { x: at, y: bottom + 17, "text-anchor": "middle", class: "tick-x" }, tickText(tick));
      free = at + half;
    }
    add("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
    add("text", { class: "title", x: right, y: bottom + 36, "text-anchor": "end" }, spec.x.label);
    const middle = (top + bottom) / 2;
    add(
      "text",
      { class: "title", x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` },
      spec.y.label,
    );
  }

  drawSeries(series, place, plot, x, y) {
    const group = svgNode("g", { class: curveClass(series), "data-curve": series.name });
    this.svg.append(group);
    const places = series.points.map((p) => [x.at(p.x), y.at(p.y)]);
    if (series.line && places.length > 1) {
      const d = "M" + places.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
      group.append(svgNode("path", { class: "line", d }));
    }
    series.points.forEach((point, i) => {
      const [px, py] = places[i];
      if (point.from !== undefined) {
        group.append(svgNode("line", { class: "span", x1: x.at(point.from), x2: x.at(point.to), y1: py, y2: py }));
      }
      group.append(markNode(series, px, py));
      if (point.text) this.texts.push({ group, text: point.text, px, py });
      this.hits.push({ x: px, y: py, series: place, tip: point.tip, group });
    });
    for (const rule of series.rules ?? []) this.rule(group, rule, place, plot, x);
  }

  drawLevel(level, plot, y) {
    const at = Math.round(y.at(level.y));
    this.svg.append(svgNode("line", { class: "level", x1: plot.left, x2: plot.right, y1: at, y2: at }));
    this.svg.append(svgNode("text", { class: "level", x: plot.left + 6, y: at - 5 }, level.text));
  }

  /** A rule inside the axis is a vertical line; one to the right of it is named at the edge, so that it stretches nothing. */
  rule(group, rule, place, plot, x) {
    const inside = rule.x <= x.last;
    const px = inside ? x.at(rule.x) : plot.right;
    if (inside) group.append(svgNode("line", { class: "line", x1: px, x2: px, y1: plot.top, y2: plot.bottom }));
    const text = inside ? rule.text : `${rule.text} \u2192`;
    const py = plot.bottom - 10 - 16 * this.rules++;
    group.append(svgNode("text", { x: px - 5, y: py, "text-anchor": "end" }, text));
    this.hits.push({ x: px - 5, y: py - 4, series: place, tip: rule.tip, group, text: true });
  }

  /** Put each text beside its mark, at the first of a few places where it hides neither a mark nor another text. */
  placeTexts(plot) {
    const taken = this.texts.map(({ px, py }) => ({ left: px - 5, right: px + 5, top: py - 5, bottom: py + 5 }));
    const free = (box) =>
      box.left >= plot.left && box.right <= plot.right + 6 && box.top >= plot.top - 4 && box.bottom <= plot.bottom
      && !taken.some((o) => o.left < box.right && box.left < o.right && o.top < box.bottom && box.top < o.bottom);
    for (const { group, text, px, py } of this.texts) {
      const node = svgNode("text", {}, text);
      group.append(node);
      const width = node.getComputedTextLength();
      const within = Math.max(plot.left, Math.min(px - width / 2, plot.right - width)); // for those too long for either side
      const boxes = [-7, 16, -19, 28, -31, 40, -43, 52, -55, 64].flatMap((dy) =>
        [px + 8, px - 8 - width, within].map((left) => ({ left, right: left + width, top: py + dy - 10, bottom: py + dy + 3 })),
      );
      const box = boxes.find(free) ?? boxes[2];
      node.setAttribute("x", box.left);
      node.setAttribute("y", box.bottom - 3);
      taken.push(box);
    }
  }

  follow(event) {
    const frame = this.svg.getBoundingClientRect();
    const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
    const far = (hit) => Math.hypot(hit.x - px, hit.y - py);
    const nearest = this.hits.reduce((best, hit) => (!best || far(hit) < far(best) ? hit : best), null);
    this.show(nearest && far(nearest) <= REACH ? nearest : null);
  }

  step(event) {
    if (event.key === "Escape") this.show(null);
    const [along, across] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [];
    if (along === undefined || !this.hits.length) return;
    event.preventDefault(); // or the page scrolls
    if (!this.current) return this.show(this.hits[0]);
    const here = this.hits.indexOf(this.current);
    if (along) {
      const next = this.hits[here + along];
      if (next?.series === this.current.series || across) this.show(next);
      return;
    }
    const places = [...new Set(this.hits.map((hit) => hit.series))];
    const series = places[(places.indexOf(this.current.series) + across + places.length) % places.length];
    const near = (hit) => Math.abs(hit.x - this.current.x);
    this.show(this.hits.filter((hit) => hit.series === series).reduce((a, b) => (near(b) < near(a) ? b : a)));
  }

  show(hit) {
    if (hit === this.current && hit) return;
    this.current?.group.classList.remove("near");
    this.current = hit;
    this.tip.hidden = !hit;
    if (this.cursor) this.cursor.style.display = hit && !hit.text ? "" : "none";
    if (!hit) return;
    hit.group.classList.add("near");
    this.cursor.setAttribute("cx", hit.x);
    this.cursor.setAttribute("cy", hit.y);
    const [title, subtitle, rows] = hit.tip;
    const list = htmlNode("dl", {}, ...rows.flatMap(([k, v]) => [htmlNode("dt", {}, k), htmlNode("dd", {}, v)]));
    this.tip.replaceChildren(htmlNode("b", {}, title), htmlNode("i", {}, subtitle), list);
    const [w, h] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = hit.x + 14 + w <= this.width ? hit.x + 14 : hit.x - 14 - w;
    this.tip.style.left = `${Math.max(0, Math.min(left, this.width - w))}px`;
    this.tip.style.top = `${Math.max(0, Math.min(hit.y - h / 2, this.svg.clientHeight - h))}px`;
  }

  /** Let one curve stand out, or none. */
  pick(name) {
    this.svg?.classList.toggle("picking", name !== null);
    for (const group of this.svg?.querySelectorAll("g.curve") ?? []) {
      group.classList.toggle("near", group.dataset.curve === name);
    }
  }
}
