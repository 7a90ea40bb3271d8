// Data of the page, and elements made of it. Text of the run becomes text nodes and attributes, never markup.
const page = JSON.parse(document.getElementById("data").textContent);
const attempts = [...page.attempts].sort((one, other) => one.attempt - other.attempt);
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000;  // units of a drawing from left to right
const STYLES = new Set(["fill", "stroke", "background", "left", "top", "--at"]);

let run = page.attempts[0];  // the attempt that is shown
let span = 1;  // its seconds

function byId(id) {
  return document.getElementById(id);
}

function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (STYLES.has(name)) element.style.setProperty(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function makeSwatch(color) {
  return make("span", { class: "swatch", background: `var(--${color})` });
}

function formatCount(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

function formatSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < 4) { bytes /= 1000; at += 1; }
  return `${bytes.toFixed(at && bytes < 100 ? 1 : 0)} ${units[at]}`;
}

function formatFigure(value) {
  if (value === null) return "NaN or infinite";
  if (Math.abs(value) >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return Number(value.toPrecision(4)).toString();
}

function formatDate(seconds) {
  const date = new Date(seconds * 1000), two = (part) => String(part).padStart(2, "0");
  const zone = -date.getTimezoneOffset(), sign = zone < 0 ? "-" : "+", minutes = Math.abs(zone);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} `
    + `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} `
    + `UTC${sign}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}
