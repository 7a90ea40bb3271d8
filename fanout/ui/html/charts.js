// Charts: curves with axes, and the values at the time under the pointer.
const COLORS = 8;

function findNearest(points, at) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - at) <= Math.abs(points[high][0] - at) ? points[low] : points[high];
}

function drawPath(points, up) {
  let pen = "M";
  return points.map(([at, value]) => {
    if (value === null) { pen = "M"; return ""; }
    const text = `${pen}${(toShare(at) * WIDE).toFixed(1)} ${up(value).toFixed(2)}`;
    pen = "L";
    return text;
  }).join("");
}

function drawBand(drawing, band, up) {
  const corner = (at, value) => `${(toShare(at) * WIDE).toFixed(1)} ${up(value).toFixed(2)}`;
  const there = band.map(([at, least]) => corner(at, least)), back = band.map(([at, , , most]) => corner(at, most)).reverse();
  drawing.append(make("svg:path", { class: "band", d: `M${[...there, ...back].join("L")}Z` }));
  drawing.append(make("svg:path", { class: "middle", d: drawPath(band.map(([at, , middle]) => [at, middle]), up) }));
}

function drawChart(chart, axis, label) {
  const up = (value) => 100 - ((value - axis.low) / (axis.high - axis.low)) * 100;
  const drawing = make("svg:svg", { viewBox: `0 0 ${WIDE} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  const across = axis.ticks.map((value) => `M0 ${up(value).toFixed(2)}H${WIDE}`);
  const along = listTimeTicks(5).map(([at]) => `M${(toShare(at) * WIDE).toFixed(1)} 0V100`);
  drawing.append(make("svg:path", { class: "grid", d: [...across, ...along].join("") }));
  if (chart.band.length) drawBand(drawing, chart.band, up);
  chart.series.forEach((one, number) => {
    const line = make("svg:path", { class: "line", d: drawPath(one.points, up), stroke: `var(--c${number % COLORS})` });
    line.append(make("svg:title", {}, one.who));
    drawing.append(line);
  });
  const labels = axis.ticks.map((value) => make("span", { top: `${up(value).toFixed(2)}%` }, formatValueTick(value, axis)));
  return { drawing, labels };
}

// Return the first and the last value, in the order of time: a falling loss reads as falling.
function describeCourse(chart) {
  const points = chart.band.length ? chart.band.map(([at, , middle]) => [at, middle]) : chart.series[0].points;
  const first = points[0][1], last = points[points.length - 1][1];
  const whose = chart.band.length ? "median " : chart.series.length > 1 ? `${chart.series[0].who} ` : "";
  return `${whose}from ${formatFigure(first)} to ${formatFigure(last)}${chart.unit ? ` ${chart.unit}` : ""}`;
}

function listKeys(chart) {
  const keys = chart.series.map((one, number) => ({ color: `c${number % COLORS}`, name: one.who, points: one.points, read: (point) => formatFigure(point[1]) }));
  if (chart.band.length) {
    keys.unshift({
      color: "band", name: `all ${chart.of}`, points: chart.band,
      read: ([, least, middle, most]) => `median ${formatFigure(middle)}, ${formatFigure(least)} to ${formatFigure(most)}`,
    });
  }
  return keys;
}

function moveCursor(event, chart) {
  const points = chart.series[0]?.points ?? chart.band, at = cursor ?? run.seconds;
  const moves = {
    ArrowLeft: () => points.filter((point) => point[0] < at - 1e-9).pop()?.[0] ?? points[0][0],
    ArrowRight: () => points.find((point) => point[0] > at + 1e-9)?.[0] ?? points[points.length - 1][0],
    PageUp: () => Math.min(run.seconds, at + span / 10),
    PageDown: () => Math.max(0, at - span / 10),
    Home: () => points[0][0],
    End: () => points[points.length - 1][0],
    Escape: () => null,
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  setCursor(moves[event.key]());
}

function makeChart(chart) {
  const drawn = chart.series.flatMap((one) => one.points.map((point) => point[1]));
  const values = drawn.concat(chart.band.flatMap(([, least, , most]) => [least, most])).filter((value) => value !== null);
  const axis = chooseValueAxis(values, chart.bounds), course = describeCourse(chart);
  const { drawing, labels } = drawChart(chart, axis, `${chart.name} over time, ${course}`);
  const readout = make("span", { class: "course" }, course);
  const area = make("div", {
    class: "area", tabindex: "0", role: "slider", "aria-label": `${chart.name}: time`, "aria-valuemin": "0",
    "aria-valuemax": String(Math.round(run.seconds)), "aria-orientation": "horizontal",
  }, drawing, make("div", { class: "cursor" }));
  if (run.cause && run.cause.at !== null) area.append(make("div", { class: "cause", left: toPercent(toShare(run.cause.at)), title: run.cause.label }));
  const keys = listKeys(chart).map((key) => {
    const value = make("b");
    return { ...key, value, element: make("li", {}, makeSwatch(key.color), `${key.name} `, value) };
  });
  const read = (at) => {
    for (const key of keys) key.value.textContent = key.read(at === null ? key.points[key.points.length - 1] : findNearest(key.points, at));
    readout.textContent = at === null ? course : `at ${formatClock(at)}`;
    area.setAttribute("aria-valuenow", String(Math.round(at ?? run.seconds)));
    area.setAttribute("aria-valuetext", `${readout.textContent}: ${keys.map((key) => `${key.name} ${key.value.textContent}`).join(", ")}`);
  };
  read(null);
  cursorReaders.push(read);
  followPointer(area);
  area.addEventListener("keydown", (event) => moveCursor(event, chart));
  area.addEventListener("blur", () => setCursor(null));
  return make("figure", { class: "chart" },
    make("figcaption", {}, make("strong", {}, chart.unit ? `${chart.name}, ${chart.unit}` : chart.name), readout),
    make("div", { class: "plot" }, make("div", { class: "values", "aria-hidden": "true" }, ...labels), area, make("span"), makeTimeAxis(5)),
    make("ul", { class: "keys" }, ...keys.map((key) => key.element)));
}

function showCharts() {
  cursorReaders.length = 0;
  const no = (text) => [make("p", { class: "rest" }, text)];
  const curves = run.curves.map(makeChart), loads = run.load.map(makeChart);
  byId("charts").replaceChildren(...(curves.length ? curves
    : no("No log line contains a loss, a speed or a step. Use --metric to define a pattern for metrics.")));
  byId("loads").replaceChildren(...(loads.length ? loads : no("The hosts reported no load.")));
}
