// What the reader has chosen, and everything in the page that follows from it. Text from data only ever becomes text
// nodes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = {
  model: "Models",
  peer: "Other learned codecs, run here",
  anchor: "Anchors",
  published: "Published, not run",
};
const TAGS = { model: "model", peer: "peer", anchor: "anchor", published: "published, not run" };
const MINUS = "\u2212";

const state = {
  metric: 0, // place in data.metrics
  log: true,
  anchor: data.bd.anchor, // place in data.curves, null when nothing can be compared
  operation: "decode",
  foreign: false, // show published times
  hidden: new Set(), // places in data.curves
};

function fixed(value, digits, sign = false) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text; // neither +0 nor -0
  return (value < 0 ? MINUS : sign ? "+" : "") + text;
}

function significant(value) {
  return value === undefined ? "n/a" : String(Number(value.toPrecision(3)));
}

/** Return [rate, overlap, gain, overlap] of a curve against the chosen anchor; see `_cells` in page.py. */
function comparison(curve, metric = state.metric) {
  return data.bd.cells[metric][data.bd.anchors.indexOf(state.anchor)][curve];
}

// --- charts ---

function pointTip(curve, point) {
  const rows = [[data.rate.unit, point.rate.toFixed(data.rate.digits)]];
  data.metrics.forEach((metric, i) => {
    const value = point.values[i];
    if (value !== null) rows.push([metric.title, fixed(value, metric.digits)]);
    else if (curve.lossless) rows.push([metric.title, "lossless"]);
  });
  for (const [name, label] of [["encode", "encode"], ["decode", "decode"]]) {
    if (point[name] !== undefined) rows.push([label, `${significant(point[name])} s`]);
    if (point[name] && point.frames) rows.push(["", `${significant(point.frames / point[name])} frames/s`]);
    else if (point[name] && point.duration) rows.push(["", `${significant(point.duration / point[name])} × real time`]);
    const peak = point[`${name}Peak`];
    if (peak !== undefined) rows.push([`${label} memory`, `${Math.round(peak / 2 ** 20)} MiB`]);
  }
  return [curve.name, [point.setting, curve.kind === "published" ? TAGS.published : ""].filter(Boolean).join(", "), rows];
}

function originalText(metric) {
  return `originals ${fixed(metric.original, metric.digits)} ${metric.unit}`;
}

function describeRates() {
  const metric = data.metrics[state.metric];
  const series = data.curves.map((curve) => {
    const points = curve.lossless ? [] : curve.points.filter((point) => point.values[state.metric] !== null && point.rate > 0);
    return {
      ...curve,
      line: true,
      points: points.map((point) => ({ x: point.rate, y: point.values[state.metric], tip: pointTip(curve, point) })),
      rules: curve.lossless
        ? curve.points.map((point) => ({
            x: point.rate,
            text: `${curve.name} lossless, ${point.rate.toFixed(2)} ${data.rate.unit}`,
            tip: pointTip(curve, point),
          }))
        : [],
    };
  });
  return {
    label: `${metric.title} over ${data.rate.label}`,
    x: { label: `${data.rate.label}${state.log ? ", log scale" : ""}`, log: state.log },
    y: { label: `${metric.title}${metric.falling ? ", lower is better" : ""}` },
    levels: metric.original === undefined ? [] : [{ y: metric.original, text: originalText(metric) }],
    empty: data.curves.length ? "No codec is chosen, or none has this metric" : "No curves",
    series: series.filter((_, i) => !state.hidden.has(i)),
  };
}

function describeSpeeds() {
  const metric = data.metrics[state.metric];
  const series = data.curves.map((curve, i) => {
    const times = curve.points.map((point) => point[state.operation]).filter((t) => t > 0).sort((a, b) => a - b);
    const [rate, overlap] = comparison(i);
    const shown = times.length && rate !== null && (curve.kind !== "published" || state.foreign);
    const median = (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
    const rows = [
      [`${state.operation}, median`, `${significant(median)} s`],
      ["fastest to slowest", `${significant(times[0])} to ${significant(times.at(-1))} s`],
      [`BD-rate in ${metric.title}`, `${fixed(rate ?? 0, 1, true)} %`],
      ["overlap", `${Math.round(100 * overlap)} %${overlap < data.bd.low ? ", low" : ""}`],
    ];
    const place = { x: median, y: rate, from: times[0], to: times.at(-1), text: curve.name };
    return { ...curve, points: shown ? [{ ...place, tip: [curve.name, TAGS[curve.kind], rows] }] : [] };
  });
  return {
    label: `BD-rate over seconds to ${state.operation}`,
    x: { label: `seconds to ${state.operation} a file, log scale`, log: true },
    y: { label: `BD-rate against ${data.curves[state.anchor].name}, %` },
    zero: true,
    empty: "No codec that is chosen has both a time and a BD-rate",
    series: series.filter((_, i) => !state.hidden.has(i)),
  };
}

// --- legend ---

function swatch(curve) {
  const group = svgNode("g", { class: curveClass(curve) });
  group.append(svgNode("path", { class: "line", d: "M1 7H33" }), markNode(curve, 17, 7));
  const svg = svgNode("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" });
  svg.append(group);
  return svg;
}

function buildLegend(host, charts) {
  for (const [kind, title] of Object.entries(KINDS)) {
    const members = data.curves.map((curve, i) => i).filter((i) => data.curves[i].kind === kind);
    if (!members.length) continue;
    const boxes = members.map((i) => {
      const box = htmlNode("input", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => {
        state.hidden[box.checked ? "delete" : "add"](i);
        drawCharts(charts);
      });
      return box;
    });
    const labels = members.map((i, n) => {
      const label = htmlNode("label", {}, boxes[n], swatch(data.curves[i]), htmlNode("span", {}, data.curves[i].name));
      label.addEventListener("pointerenter", () => charts.forEach((chart) => chart.pick(data.curves[i].name)));
      label.addEventListener("pointerleave", () => charts.forEach((chart) => chart.pick(null)));
      return label;
    });
    const all = htmlNode("button", { type: "button", "aria-label": `All or none of ${title}` }, "all / none");
    all.addEventListener("click", () => {
      const on = boxes.some((box) => !box.checked);
      boxes.forEach((box) => { box.checked = on; });
      members.forEach((i) => state.hidden[on ? "delete" : "add"](i));
      drawCharts(charts);
    });
    const head = htmlNode("div", {}, htmlNode("h3", {}, title), ...(members.length > 1 ? [all] : []));
    host.append(htmlNode("section", {}, head, ...labels));
  }
}

function drawCharts(charts) {
  charts.forEach((chart) => chart.draw());
}

// --- BD table ---

function deltaCell(value, digits, overlap) {
  if (value !== null) return htmlNode("td", { class: "n" }, fixed(value, digits, true));
  const reason = htmlNode("abbr", { title: data.bd.reasons[overlap], tabindex: "0" }, "n/a");
  return htmlNode("td", { class: "n" }, reason);
}

/** Fill the BD table for the chosen anchor and metric, as `comparisons` in tables.py does for the first. */
function fillDeltas(table) {
  const metric = data.metrics[state.metric];
  document.getElementById("bd-anchor").textContent = data.curves[state.anchor].name;
  document.getElementById("bd-metric").textContent = metric.title;
  table.tHead.rows[0].cells[3].querySelector("button").textContent = `BD-${metric.label} ${metric.unit}`.trim();
  const rows = data.curves.map((curve, i) => {
    const [rate, overlap, gain, gainOverlap] = comparison(i);
    const low = rate !== null && overlap < data.bd.low;
    const row = htmlNode(
      "tr",
      {},
      htmlNode("th", { scope: "row" }, curve.name),
      htmlNode("td", {}, TAGS[curve.kind]),
      deltaCell(rate, 1, overlap),
      deltaCell(gain, metric.digits, gainOverlap),
      htmlNode("td", { class: "n" }, rate === null ? "" : `${(100 * overlap).toFixed(0)}${low ? " low" : ""}`),
    );
    row.classList.toggle("low", low);
    row.classList.toggle("anchor", i === state.anchor);
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
  sortAgain(table);
  const reasons = new Set([...table.querySelectorAll("abbr")].map((node) => node.title));
  document.getElementById("bd-missing").textContent = reasons.size ? `n/a: ${[...reasons].join("; ")}.` : "";
}

// --- everything together ---

function selects(name, options, chosen, onChange) {
  const all = [...document.querySelectorAll(`[data-control="${name}"]`)];
  for (const select of all) {
    select.append(...options.map(([text, value]) => new Option(text, value)));
    select.value = chosen;
    select.addEventListener("change", () => {
      all.forEach((other) => { other.value = select.value; }); // the same choice wherever it is offered
      onChange(Number(select.value));
    });
  }
}

function radios(name, onChange) {
  for (const radio of document.querySelectorAll(`[name="${name}"]`)) {
    radio.addEventListener("change", () => onChange(radio.value));
  }
}

function main() {
  const comparable = state.anchor !== null;
  const table = document.getElementById("bd");
  const sections = [...document.querySelectorAll(".needs-script")];
  for (const node of sections) node.hidden = !comparable && node.closest("#deltas, #speed") !== null;
  const charts = [new Chart(document.getElementById("rd-chart"), describeRates)];
  if (comparable) charts.push(new Chart(document.getElementById("speed-chart"), describeSpeeds));

  const update = () => {
    drawCharts(charts);
    if (comparable) fillDeltas(table);
  };
  const set = (name) => (value) => {
    state[name] = value;
    update();
  };
  selects("metric", data.metrics.map((metric, i) => [metric.title, i]), state.metric, set("metric"));
  selects("anchor", data.bd.anchors.map((i) => [data.curves[i].name, i]), state.anchor, set("anchor"));
  radios("scale", (value) => set("log")(value === "log"));
  radios("operation", set("operation"));
  const foreign = document.querySelector("[data-control=foreign]");
  foreign.addEventListener("change", () => set("foreign")(foreign.checked));
  document.getElementById("foreign").hidden = !data.curves.some(
    (curve) => curve.kind === "published" && curve.points.some((point) => point.encode || point.decode),
  );

  for (const each of document.querySelectorAll("table")) makeSortable(each);
  if (comparable) markSorted(table, 2, "ascending");
  buildLegend(document.getElementById("legend"), charts);
  update();

  const folds = [...document.querySelectorAll("#points details")];
  const unfold = document.querySelector("[data-control=unfold]");
  unfold.addEventListener("click", () => {
    const open = folds.some((fold) => !fold.open);
    folds.forEach((fold) => { fold.open = open; });
    unfold.textContent = open ? "Fold all" : "Unfold all";
  });
  addEventListener("beforeprint", () => folds.forEach((fold) => { fold.open = true; }));

  const sheets = document.getElementById("sheets");
  if (sheets.querySelector(".sheet")) {
    const model = data.curves.find((curve) => curve.kind === "model");
    showExhibits(sheets, [data.curves[state.anchor]?.name, model?.name]);
  } else {
    sheets.closest("section").hidden = true;
  }
}

main();
