"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
// Names come from strangers' files and Plotly reads a little HTML in its texts.
const escaped = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const config = {displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]};
const font = {family: "system-ui, sans-serif", size: 12, color: "#1c1e21"};
const axis = (title, more) => Object.assign({title: {text: title}, gridcolor: "#e9ecef", zeroline: false, linecolor: "#1c1e21", ticks: "outside", automargin: true}, more);
const layout = (title, xaxis, yaxis, more) => Object.assign({
  title: {text: title, font: {size: 14}, x: 0.01, xanchor: "left"}, font, xaxis, yaxis, hovermode: "closest", showlegend: false,
  margin: {l: 62, r: 12, t: 52, b: 48}, paper_bgcolor: "#fff", plot_bgcolor: "#fff"}, more);
const tinted = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");
// All boxes of a grid must be there before the first chart measures its own.
function charts(id, count) {
  const place = byId(id);
  while (place.children.length < count) place.appendChild(document.createElement("div"));
  while (place.children.length > count) { Plotly.purge(place.lastChild); place.lastChild.remove(); }
  return place.children;
}

function fill(id, names, onChange) {
  const select = byId(id), controls = select.closest(".controls");
  for (const name of names) select.add(new Option(name, name));
  select.parentElement.hidden = names.length < 2;
  controls.hidden = [...controls.children].every(control => control.hidden);
  select.addEventListener("change", onChange);
}

// Lines differ without colour: each has dashes and a symbol of its own.
const stroke = ({color, dash}, width) => ({color, dash, width});
const outlines = {circle: "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z", square: "M-3.2,-3.2H3.2V3.2H-3.2Z",
  "triangle-up": "M-4,3.3H4L0,-3.7Z", diamond: "M0,-4.5L4.5,0L0,4.5L-4.5,0Z", "triangle-down": "M-4,-3.3H4L0,3.7Z",
  cross: "M-4,-1.4H-1.4V-4H1.4V-1.4H4V1.4H1.4V4H-1.4V1.4H-4Z",
  x: "M-4,-2L-2,-4L0,-2L2,-4L4,-2L2,0L4,2L2,4L0,2L-2,4L-4,2L-2,0Z"};

function swatch({color, dash, symbol}) {
  const [svg, line, outline] = ["svg", "path", "path"].map(name => document.createElementNS("http://www.w3.org/2000/svg", name));
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "-22 -6 44 12");
  line.setAttribute("d", "M-22,0H22");
  Object.assign(line.style, {stroke: color, strokeWidth: 2, strokeDasharray: dash === "solid" ? "none" : dash});
  outline.setAttribute("d", outlines[symbol]);
  outline.style.fill = color;
  svg.append(line, outline);
  return svg;
}

const hidden = new Set();
function addMethods() {
  for (const method of data.methods) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = true; box.dataset.method = method;
    box.addEventListener("change", () => { hidden[box.checked ? "delete" : "add"](method); drawCurves(); });
    label.append(box, swatch(data.looks.method[method]), method);
    byId("methods").append(label);
  }
}

// Counts come as differences from the one before.
const summed = steps => { let sum = 0; return steps.map(step => sum += step); };
const at = (values, index) => values[values.length === 1 ? 0 : index];
const shown = value => value ?? "none";

function hoverTexts(curve, errors) {
  const [discarded, genuine, impostor, wrong] =
    [curve.n_discarded, curve.n_genuine, curve.n_impostor, curve.n_errors].map(summed);
  return errors.map((error, i) => [
    `<b>${escaped(curve.method)}</b>`,
    `discarded ${(100 * discarded[i] / curve.n_discardable).toFixed(2)} %`,
    `FNMR ${error === null ? "none" : error.toPrecision(4)} (${at(wrong, i)} of ${at(genuine, i)} genuine pairs)`,
    `effective FMR ${shown(at(curve.effective_fmr, i))} on ${at(impostor, i)} impostor pairs`,
    `threshold ${shown(at(curve.threshold, i))}`].join("<br>"));
}

function bandTrace(band, color) {
  const discard = data.band_grids[band.grid];
  return {x: [...discard, ...discard.slice().reverse()], y: [...band.high, ...band.low.slice().reverse()],
    fill: "toself", fillcolor: tinted(color, .09), line: {color: tinted(color, .45), width: 1}, hoverinfo: "skip", mode: "lines"};
}

// The symbols of the next method stand beside, so that curves that coincide are all seen.
function symbolTrace(curve, {x, y}, {color, symbol}) {
  const count = Object.keys(outlines).length, shift = (data.methods.indexOf(curve.method) % count + 0.5) / count, end = data.limit ?? curve.end;
  const marked = [...Array(6).keys()].map(i => x.findLastIndex(share => share <= (i + shift) / 6 * end));
  return {x: marked.map(i => x[i]), y: marked.map(i => y[i]), mode: "markers", hoverinfo: "skip", marker: {color, symbol, size: 8}};
}

function curveTraces(curve) {
  const look = data.looks.method[curve.method];
  const genuine = summed(curve.n_genuine), wrong = summed(curve.n_errors);
  const x = summed(curve.n_discarded).map(count => count / curve.n_discardable);
  const y = x.map((_, i) => at(genuine, i) && at(curve.threshold, i) !== null ? at(wrong, i) / at(genuine, i) : null);
  const trace = {x, y, text: hoverTexts(curve, y), hoverinfo: "text", mode: "lines", name: escaped(curve.method), line: stroke(look, 2)};
  const band = curve.band && byId("bands").checked ? [bandTrace(curve.band, look.color)] : [];
  return [...band, trace, symbolTrace(curve, trace, look)];
}

function referenceTraces(curve, reference) {
  const line = {color: "#8a9199", width: 1.5}, best = reference.best_error;
  return [
    {x: [0, curve.end], y: [reference.random, reference.random], mode: "lines", line: {...line, dash: "dot"},
      name: "random level", hoverinfo: "name+y"},
    {x: [...reference.best_discard, curve.end], y: [...best, best[best.length - 1]], mode: "lines",
      line: {...line, dash: "dash"}, name: "theoretical best", hoverinfo: "name+y"}];
}

function panelTitle(curves, {resolution}) {
  const fmrs = curves.flatMap(curve => curve.effective_fmr).filter(fmr => fmr !== null);
  const [low, high] = [Math.min(...fmrs), Math.max(...fmrs)].map(fmr => Number(fmr.toPrecision(2)));
  return `${escaped(curves[0].test_set)}<br><span style="font-size:11px;color:#5b626b">effective FMR ` +
    `${low === high ? low : `${low} to ${high}`}, ${[curves[0].n_genuine[0], curves[0].n_impostor[0]].map(count => count.toLocaleString("en")).join(" + ")} pairs${resolution ? `; ${resolution}` : ""}</span>`;
}

const discardable = {fixed: "genuine pairs", image: "images"};

function drawCurves() {
  const chosen = {recogniser: byId("recogniser").value, protocol: byId("protocol").value, fmr: byId("fmr").value};
  const log = byId("log").checked, only = byId("panel").value;
  const isChosen = curve => Object.keys(chosen).every(key => curve[key] === chosen[key]);
  const panels = data.test_sets.filter(name => !only || name === only)
    .map(name => data.curves.filter(curve => curve.test_set === name && isChosen(curve)))
    .filter(curves => curves.length);
  const boxes = charts("erc", panels.length);
  panels.forEach((curves, index) => {
    const [first] = curves;
    const panel = data.panels.find(r => r.test_set === first.test_set && isChosen(r));
    const traces = [...(byId("references").checked ? referenceTraces(first, panel) : []),
      ...curves.filter(curve => !hidden.has(curve.method)).flatMap(curveTraces)];
    const highest = Math.max(...curves.map(curve => curve.top)) || 1;
    const lowest = Math.min(...curves.map(curve => curve.bottom ?? highest / 10));
    const scale = log ? {type: "log", exponentformat: "power", dtick: 1, minor: {ticks: "outside", ticklen: 3},
      range: [Math.log10(0.8 * lowest), Math.log10(highest)]} : {type: "linear", range: [0, highest]};
    const end = data.limit ?? first.end;
    const shapes = panel.unresolved_from === null ? [] : [{type: "rect", layer: "below", x0: panel.unresolved_from, x1: end,
      yref: "paper", y0: 0, y1: 1, fillcolor: "#eceef0", line: {width: 0}}];
    Plotly.react(boxes[index], traces, layout(panelTitle(curves, panel),
      axis(`discarded fraction of ${discardable[chosen.protocol] ?? "pairs"}`, {range: [0, end]}),
      axis(`FNMR at FMR ${chosen.fmr}`, scale), {shapes}), config);
  });
}

const legendBelow = {showlegend: true, legend: {orientation: "h", y: -0.3, yanchor: "top"}};

function detTraces(row) {
  const look = data.looks.recogniser[row.recogniser], name = escaped(row.recogniser);
  const points = row.points.filter(point => point.fnmr > 0);
  return [
    {x: row.det_fmr, y: row.det_fnmr, mode: "lines", name, line: stroke(look, 2),
      hovertemplate: "FMR %{x:.3g}<br>FNMR %{y:.3g}"},
    {x: points.map(point => point.fmr), y: points.map(point => point.fnmr), mode: "markers", name, showlegend: false,
      marker: {color: look.color, symbol: look.symbol, size: 9}, text: points.map(point => `target FMR ${point.target}`),
      hovertemplate: "%{text}<br>FMR %{x:.3g}<br>FNMR %{y:.3g}"}];
}

function drawDet(box, rows) {
  const lowest = key => Math.log10(Math.min(...rows.map(row => 1 / row[key])));
  const decades = {type: "log", exponentformat: "power", dtick: 1, minor: {ticks: "outside", ticklen: 3}};
  Plotly.react(box, rows.flatMap(detTraces), layout(`detection error trade-off, ${escaped(rows[0].test_set)}`,
    axis("FMR", {...decades, range: [lowest("n_impostor"), 0]}), axis("FNMR", {...decades, range: [lowest("n_genuine"), 0]}),
    rows.length > 1 ? legendBelow : {}), config);
}

const middles = edges => edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);

function drawSimilarities(box, row) {
  const bars = (kind, colour, shape) => ({x: middles(row.edges), y: row[kind], type: "bar", name: kind,
    marker: {color: tinted(colour, .55), pattern: {shape, size: 5, fgcolor: colour}}, hovertemplate: "similarity %{x:.3f}<br>share %{y:.4f}"});
  const thresholds = row.thresholds.filter(({at}) => at !== null);
  const shapes = thresholds.map(({at}) => ({type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1,
    line: {dash: "dot", width: 1, color: "#5b626b"}}));
  const annotations = thresholds.map(({at, label}) => ({x: at, y: 1, yref: "paper", text: label, textangle: -90,
    showarrow: false, xanchor: "left", yanchor: "top", font: {size: 10, color: "#5b626b"}}));
  Plotly.react(box, [bars("impostor", "#0072B2", ""), bars("genuine", "#D55E00", "/")], layout(escaped(row.recogniser),
    axis("similarity"), axis("share of pairs"), {barmode: "overlay", bargap: 0, shapes, annotations, ...legendBelow}), config);
}

function drawVerification() {
  const rows = data.verification.filter(row => row.test_set === byId("test_set").value);
  const [det, ...others] = charts("det", rows.length + 1);
  drawDet(det, rows);
  rows.forEach((row, index) => drawSimilarities(others[index], row));
}

function drawQuality() {
  const boxes = charts("histograms", data.quality.length);
  data.quality.forEach((method, index) => {
    const traces = method.densities.map(({test_set, density}) => {
      const look = data.looks.test_set[test_set];
      return {x: middles(method.edges), y: density, mode: "lines", fill: "tozeroy", fillcolor: tinted(look.color, .08),
        line: {...stroke(look, 1.5), shape: "hvh"}, name: escaped(test_set), hovertemplate: "%{x:.2f}<br>density %{y:.3g}"};
    });
    Plotly.react(boxes[index], traces, layout(escaped(method.method), axis("quality, scaled: 0 and 1 are its 1 % and 99 % quantiles", {range: [0, 1]}),
      axis("density", {rangemode: "tozero"}), legendBelow), config);
  });
}

if (data.curves.length) {
  fill("recogniser", data.recognisers.filter(r => data.curves.some(c => c.recogniser === r)), drawCurves);
  fill("protocol", data.protocols, drawCurves);
  fill("fmr", data.fmrs, drawCurves);
  fill("panel", data.test_sets, drawCurves);
  byId("fmr").value = (data.panels.find(panel => panel.unresolved_from === null) ?? data.panels[0]).fmr;
  for (const id of ["log", "bands", "references"]) byId(id).addEventListener("change", drawCurves);
  byId("bands").parentElement.hidden = !data.curves.some(c => c.band);
  byId("bands").checked = data.few_bands;
  addMethods();
  drawCurves();
}
fill("test_set", data.test_sets, drawVerification);
drawVerification();
if (data.quality.length) drawQuality();
