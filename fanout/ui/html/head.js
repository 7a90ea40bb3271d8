// Head of the page: badge, verdict, and facts.
const ORIGINS = { script: "from train.sh", ssh: "a host was unreachable or lost", fanout: "chosen by fanout", user: "you stopped it" };

function describeFirstCause() {
  const cause = run.cause, facts = [];
  if (cause.at !== null) facts.push(`at ${formatClock(cause.at)}`);
  if (cause.step !== null) facts.push(`last step ${cause.step.toLocaleString("en")}`);
  facts.push(`confidence ${cause.confidence}`);
  return facts.join(", ");
}

function listFacts() {
  const bytes = run.streams.reduce((sum, stream) => sum + stream.bytes, 0);
  const ranks = run.streams.filter((stream) => stream.rank !== null).length;
  const facts = [["started", formatDate(run.began)], ["duration", formatClock(run.seconds)]];
  facts.push(["hosts", formatCount(run.hosts.length, "host") + (ranks ? `, ${formatCount(ranks, "rank")}` : "")]);
  facts.push(["output", `${formatCount(run.log.lines_total, "line")}, ${formatSize(bytes)}`]);
  if (run.stage === "ended") facts.push(["exit status", `${run.outcome.exit_code} (${ORIGINS[run.outcome.origin]})`]);
  if (run.cause) facts.push([run.cause.label, describeFirstCause()]);
  facts.push(["command", run.title], ["record", run.directory]);
  return facts;
}

function showHead() {
  const { badge, tone, headline } = run.summary;
  byId("badge").textContent = badge;
  byId("badge").className = tone;
  byId("headline").textContent = headline;
  byId("run").textContent = run.name ? `${run.name} · run ${run.run}` : `run ${run.run}`;
  document.title = `${badge}: fanout run ${run.run}`;
  byId("facts").replaceChildren(...listFacts().map(([name, value]) => (
    make("div", { class: ["command", "record"].includes(name) ? "wide" : "" }, make("dt", {}, name), make("dd", {}, value))
  )));
  const table = run === page.attempts[0] ? page.table.map((line) => `${line}\n`).join("") : "";
  byId("report").textContent = run.report.replace(/^\n+/, "") + table;
}
