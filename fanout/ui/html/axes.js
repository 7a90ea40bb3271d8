// Axes: round ticks for values and times, and their labels.
const TIME_STEPS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800,
];

function isNarrow() {
  return matchMedia("(max-width: 700px)").matches;
}

function toShare(seconds) {
  return Math.max(0, Math.min(1, seconds / span));
}

function toPercent(share) {
  return `${(share * 100).toFixed(2)}%`;
}

function formatClock(seconds) {
  const whole = Math.floor(seconds), two = (part) => String(part).padStart(2, "0");
  if (span < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

function listTicks(low, high, step) {
  const ticks = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number += 1) {
    ticks.push(Number((number * step).toPrecision(12)));
  }
  return ticks;
}

function listTimeTicks(most) {
  const step = TIME_STEPS.find((each) => span / each <= most) ?? Math.ceil(span / most / 604800) * 604800;
  return listTicks(0, span, step).map((at) => [at, formatTick(at, step)]);
}

function formatTick(at, step) {
  if (at === 0) return "0";
  if (span < 120) return `${at} s`;
  if (span < 7200) return step < 60 ? `${Math.floor(at / 60)}:${String(at % 60).padStart(2, "0")}` : `${at / 60} min`;
  if (step < 3600) return `${Math.floor(at / 3600)}:${String(Math.round(at / 60) % 60).padStart(2, "0")} h`;
  return `${at / 3600} h`;
}

// Return the range of a value axis and its ticks. The range ends at ticks, unless the bounds are fixed.
function chooseValueAxis(values, bounds = [null, null]) {
  let low = bounds[0] ?? values.reduce((least, value) => Math.min(least, value), Infinity);
  let high = bounds[1] ?? values.reduce((most, value) => Math.max(most, value), -Infinity);
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = bounds[0] === null ? [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2] : [low, low + 1];
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.999);
  low = bounds[0] ?? Math.floor(low / step + 1e-9) * step;
  high = bounds[1] ?? Math.ceil(high / step - 1e-9) * step;
  return { low, high, ticks: listTicks(low, high, step) };
}

function formatValueTick(value, axis) {
  const large = Math.max(Math.abs(axis.low), Math.abs(axis.high));
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (large >= 10 * size || (large >= size && size > 1e3)) return value === 0 ? "0" : `${Number((value / size).toPrecision(4))}${unit}`;
  }
  return large < 1e-3 && value !== 0 ? value.toExponential(1) : Number(value.toPrecision(6)).toString();
}

function makeTimeAxis(most) {
  const axis = make("div", { class: "axis", "aria-hidden": "true" });
  for (const [at, text] of listTimeTicks(most)) {
    const share = toShare(at), edge = share < 0.03 ? "start" : share > 0.96 ? "end" : "middle";
    axis.append(make("span", { left: toPercent(share), class: edge }, text));
  }
  return axis;
}

// One time is under the pointer, in all drawings. Each of them has a function that shows its values at this time.
const cursorReaders = [];
let cursor = null;

function setCursor(at) {
  cursor = at;
  document.body.classList.toggle("pointing", at !== null);
  document.documentElement.style.setProperty("--cursor", toPercent(toShare(at ?? 0)));
  for (const read of cursorReaders) read(at);
}

function followPointer(area, findDrawing = () => area) {
  area.addEventListener("pointermove", (event) => {
    const box = findDrawing().getBoundingClientRect();
    if (event.clientX < box.left) return;
    setCursor(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * span);
  });
  area.addEventListener("pointerleave", () => setCursor(null));
}
