// Log: an excerpt with filters by host, rank, level and text.
const LINES_AT_ONCE = 500;
const MARKS = ["", "W", "E"], LEVELS = ["", "warning", "error"];
let linesShown = LINES_AT_ONCE;

function fillChoices() {
  const fill = (id, options) => {
    const chosen = byId(id).value;
    byId(id).options.length = 1;
    byId(id).append(...options);
    byId(id).value = chosen;
    if (byId(id).selectedIndex < 0) byId(id).value = "";
  };
  fill("by-host", run.hosts.map((host, number) => make("option", { value: number }, host.name)));
  const ranks = [...new Set(run.streams.map((stream) => stream.rank).filter((rank) => rank !== null))].sort((a, b) => a - b);
  fill("by-rank", ranks.map((rank) => make("option", { value: rank }, String(rank))));
}

function findLines() {
  const host = byId("by-host").value, rank = byId("by-rank").value;
  const level = Number(byId("by-level").value), text = byId("by-text").value.toLowerCase();
  const fits = run.streams.map((stream) => (host === "" || stream.host === Number(host)) && (rank === "" || stream.rank === Number(rank)));
  const all = host === "" && rank === "";
  const speaks = run.log.speakers.map(([, ranges]) => all || ranges.some(([from, to]) => {
    for (let number = Math.max(0, from); number <= to; number += 1) if (fits[number]) return true;
    return false;
  }));
  const plain = all && level === 0 && text === "";
  return run.log.lines.filter((line) => (line.length === 1 ? plain : speaks[line[1]] && line[2] >= level && (text === "" || line[3].toLowerCase().includes(text))));
}

function makeLine(line) {
  if (line.length === 1) return make("li", { class: "gap" }, `… ${formatCount(line[0], "line")} not in this page …`);
  const [at, speaker, level, text] = line;
  const voices = run.log.speakers[speaker][1].reduce((sum, [from, to]) => sum + to - from + 1, 0);
  return make(
    "li", { class: `l${level}` },
    make("time", {}, formatClock(at)),
    make("span", { class: "who" }, run.log.speakers[speaker][0]),
    make("abbr", { class: "mark", title: LEVELS[level] }, MARKS[level]),
    make("span", { class: "text" }, voices > 1 ? `${text}  ×${voices}` : text),
  );
}

function showLog() {
  const found = findLines(), visible = found.slice(-linesShown);
  byId("lines").replaceChildren(...visible.map(makeLine));
  byId("earlier").hidden = visible.length === found.length;
  const here = run.log.lines.filter((line) => line.length > 1).length;
  const matching = found.filter((line) => line.length > 1).length;
  byId("shown").textContent = `${formatCount(visible.filter((line) => line.length > 1).length, "line")} shown of `
    + `${matching.toLocaleString("en")} that match, of ${here.toLocaleString("en")} in this page; the run printed `
    + `${formatCount(run.log.lines_total, "line")}. All lines: ${run.directory}/${run.log.files}, or fanout logs ${run.run}`;
}

function setUpFilters() {
  byId("filters").addEventListener("input", () => { linesShown = LINES_AT_ONCE; showLog(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("earlier").addEventListener("click", () => { linesShown += 2 * LINES_AT_ONCE; showLog(); });
}
