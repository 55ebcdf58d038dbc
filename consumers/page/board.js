// The board: asks for documents, and puts their figures in their places.
import { ask, key, Refused } from "./ask.js";
import * as charts from "./charts.js";
import { at, count, make, moment, money, number, rows, say, seconds, share, sure } from "./parts.js";

const EVERY_MS = 2_000, MAP_EVERY_MS = 15_000;
const shown = { board: null, map: null, lost: null };

// -- panels

function stream(status) {
  say("freshness", seconds(status?.freshness_p50_s));
  say("freshness-slow", seconds(status?.freshness_p95_s));
  say("lag", status && status.lag === null ? "not known" : count(status?.lag));
  say("rate", count(status?.events_per_s));
  say("events", count(status?.events_in));
  for (const name of ["edges", "users", "items"]) say(name, count(status?.[name]));
  const listed = (counts) => Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, n]) => [name, number(count(n))]);
  rows("kinds", status ? listed(status.kinds) : []);
  const rest = status ? { ...status.reasons, ...(status.duplicates ? { "seen before": status.duplicates } : {}) } : {};
  rows("reasons", listed(rest));
  charts.rate(at("rate-chart"), status?.past ?? []);
}

function quality(status) {
  say("recall", share(status?.recall));
  say("popular-recall", share(status?.popularity_recall));
  say("ndcg", share(status?.scores["ndcg@20"]));
  say("scored", count(status?.scores.scored_events));
  charts.recall(at("recall-chart"), status?.past ?? []);
}

function versions(all) {
  // A version that was returned to is there twice: its latest line says how it stands.
  const latest = new Set(all.map((one) => all.findIndex((other) => other.version === one.version)));
  const list = all.map((one, n) => (latest.has(n) ? one : { ...one, live: false, kept: false, asked: false }));
  const cells = list.map((one) => [
    String(one.version),
    `${moment(one.at)}${one.step === "rolled_back" ? ", returned to" : ""}`,
    number(count(one.gates?.items)), number(count(one.gates?.users)), number(share(one.gates?.overlap)),
    standing(one),
  ]);
  rows("version-rows", cells, JSON.stringify(list));
}

function standing(one) {
  if (one.live) return make("span", "live", "tag good");
  if (one.asked) return make("span", "return asked for", "tag");
  if (!one.kept) return make("span", "past", "tag");
  const button = make("button", `Return to ${one.version}`);
  button.type = "button";
  button.addEventListener("click", () =>
    act(`Have readers see version ${one.version} again? Versions after it are not taken up again; the next new one is.`, "rollback", { version: one.version }),
  );
  return button;
}

function drift({ series, age_s, alerts, muted }) {
  say("drift-note", age_s === null ? "Nobody watches this state: run `goat watch`." : `Looked at ${seconds(age_s)} ago. In deviations of each watch's own null; the band is two of them, what is left of the dotted line taught the null.`);
  const home = at("series");
  const names = series.map((one) => one.watch).join();
  if (home.dataset.names !== names) {
    home.dataset.names = names;
    home.replaceChildren(...series.map((one) => {
      const card = make("article"), button = make("button", "Mute for a day");
      button.type = "button";
      button.setAttribute("aria-label", `Mute ${one.watch} for a day`);
      button.addEventListener("click", () => act(`Say nothing of "${one.watch}" for a day?`, "mute", { watch: one.watch, hours: 24 }));
      card.append(make("h3"), make("div", null, "chart"), button);
      return card;
    }));
  }
  series.forEach((one, n) => {
    const [title, chart] = home.children[n].children;
    const said = `${one.watch}: ${one.answer}${muted[one.watch] ? `, muted until ${muted[one.watch]}` : ""}`;
    if (title.textContent !== said) title.textContent = said;
    const enough = one.ends.length > 0;
    chart.hidden = !enough;
    if (enough) charts.deviations(chart, one);
  });
  const list = at("alerts"), same = JSON.stringify(alerts);
  if (list.dataset.shown === same) return;
  list.dataset.shown = same;
  list.replaceChildren(...alerts.map(alert));
}

function alert(one) {
  const item = make("li", null, one.acknowledged ? "seen" : "");
  const [worst, ...others] = one.moved;
  const more = others.length ? ` and ${others.length} more segments` : "";
  item.append(
    make("strong", `${one.watch}, ${worst.segment}${more}`),
    document.createTextNode(`: ${worst.deviations.toFixed(1)} sd (${worst.statistic} ${worst.before.toFixed(3)} to ${worst.distance.toFixed(3)}) since ${moment(one.since.time)} `),
    make("small", `most of it: ${one.movers.map((m) => m.name).join(", ")}; ${cost(one)}version ${one.version}; ${one.name}`),
  );
  if (!one.acknowledged) {
    const button = make("button", "Acknowledge");
    button.type = "button";
    button.setAttribute("aria-label", `Acknowledge ${one.name}`);
    button.addEventListener("click", () => act(null, "acknowledge", { alert: one.name }));
    item.append(button);
  }
  return item;
}

function cost(one) {
  if (one.recall_after === null) return "";
  const before = one.recall_before === null ? "" : `${share(one.recall_before)} before, `;
  return `recall@20 ${before}${share(one.recall_after)} since; `;
}

function campaigns(list) {
  const tag = (state) => make("span", state, `tag ${state === "running" ? "good" : state === "exhausted" ? "bad" : ""}`);
  rows("campaign-rows", list.map((one) => [
    one.campaign_id, tag(one.state), number(money(one.spent, one.currency)),
    number(one.budget === null ? "none" : money(one.budget, one.currency)), number(`${Math.round(one.pacing * 100)} %`),
  ]), JSON.stringify(list.map((one) => [one.campaign_id, one.state, one.spent, one.budget, one.pacing])));
  const select = at("campaign"), names = list.map((one) => one.campaign_id);
  if (select.dataset.names !== names.join()) {
    const before = select.value;
    select.dataset.names = names.join();
    select.replaceChildren(...names.map((name) => make("option", name)));
    if (names.includes(before)) select.value = before;
  }
  const chosen = list.find((one) => one.campaign_id === select.value);
  say("pacing-caption", chosen && chosen.budget === null ? "No budget bounds this campaign's day: nothing is paced" : "Spent since this server began, and what the day's expected traffic would have spent (UTC)");
  charts.pacing(at("pacing"), chosen ?? { curve: [], planned: [], budget: 0 });
}

function alignment({ version, explained, points }) {
  say("map-caption", points.length ? `Version ${version}: ${count(points.length)} items, those with most events; the plane holds ${Math.round(explained * 100)} % of the variance` : "No item has both events and a text yet");
  charts.map(at("map"), points);
}

// -- the playground

async function play(event) {
  event.preventDefault();
  const user = at("user").value.trim();
  say("asked", "asking");
  try {
    const [list, popular] = await Promise.all([
      ask("/v1/candidates", { user_id: user, k: 10, explain: true, record: false }),
      ask("/v1/candidates", { k: 10, record: false }),
    ]);
    const held = list.fell.includes("user_unknown") ? null : await ask(`/v1/users/${encodeURIComponent(user)}`);
    say("preferences", held?.preferences ? `Said to like: ${held.preferences}` : "");
    at("history").replaceChildren(...(held?.history ?? []).slice(0, 10).map((did) => entry(did.title ?? did.item_id, moment(did.occurred_at))));
    at("candidates").replaceChildren(...list.items.map((item) => entry(item.title ?? item.item_id, reasons(item))));
    at("popular").replaceChildren(...popular.items.map((item) => entry(item.title ?? item.item_id, `decayed count ${item.score.toFixed(1)}`)));
    const fell = list.fell.length ? ` (${list.fell.join(", ").replaceAll("_", " ")})` : "";
    say("asked", `${user}: ${held ? `${count(held.events)} events held` : "never seen"}; rung ${list.rung}${fell}, version ${list.version}`);
  } catch (error) {
    say("asked", `not answered: ${error.message}`);
  }
}

function entry(title, more) {
  const item = make("li", title);
  item.append(make("small", more));
  return item;
}

function reasons(item) {
  const why = item.why, parts = [`score ${item.score.toFixed(2)}`];
  if (why?.personal !== undefined && why?.personal !== null) parts.push(`${why.personal.toFixed(2)} personal, ${why.popularity.toFixed(2)} popularity`);
  if (why?.because?.length) parts.push(`like ${why.because.map((one) => one.item_id).join(", ")}`);
  return parts.join("; ");
}

// -- what an operator does

async function act(question, verb, body) {
  if (question && !(await sure(question))) return;
  try {
    await ask(`/v1/operate/${verb}`, body);
    await refresh();
  } catch (error) {
    trouble(`Not done: ${error.message}`);
  }
}

// -- keeping up

function trouble(text) {
  at("trouble").hidden = !text;
  say("trouble", text ?? "");
}

function head(board) {
  const { status, status_stale, status_age_s, served_version, trouble: why } = board;
  const good = status && !status_stale && !why;
  at("state").className = good ? "good" : "bad";
  const fast = !status ? "no fast path has written this state" : status_stale ? `the fast path has said nothing for ${seconds(status_age_s)}` : status.doing;
  say("state-text", `version ${served_version || "none yet"}; ${why ?? fast}`);
}

async function refresh() {
  try {
    const board = await ask("/v1/board");
    shown.board = board;
    shown.lost = null;
    at("key").hidden = true;
    trouble(null);
    head(board);
    stream(board.status);
    quality(board.status);
    versions(board.versions);
    drift(board.drift);
    campaigns(board.campaigns);
    at("known").replaceChildren(...board.users.map((name) => { const option = make("option"); option.value = name; return option; }));
  } catch (error) {
    lost(error);
  }
}

function lost(error) {
  at("state").className = "bad";
  if (error instanceof Refused && error.status === 401) {
    if (key.get()) trouble("The server does not know this key");
    key.forget();
    at("key").hidden = false;
    say("state-text", "an API key is asked for");
    return;
  }
  shown.lost ??= new Date();
  say("state-text", `connection lost since ${shown.lost.toISOString().slice(11, 19)} UTC; figures are of before`);
  if (error instanceof Refused) trouble(error.message);
}

async function remap() {
  try {
    const map = await ask("/v1/board/alignment");
    if (shown.map === JSON.stringify(map)) return;
    shown.map = JSON.stringify(map);
    alignment(map);
  } catch {
    // `refresh` says what is wrong.
  }
}

function every(ms, what) {
  const again = async () => {
    if (!document.hidden) await what();
    setTimeout(again, ms);
  };
  again();
}

function theme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  at("theme").setAttribute("aria-pressed", String(dark));
  return dark;
}

at("theme").addEventListener("click", () => {
  const next = theme() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("goat-theme", next);
  theme();
  charts.redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { theme(); charts.redraw(); });
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key-field").value.trim());
  at("key-field").value = "";
  refresh().then(remap);
});
at("ask").addEventListener("submit", play);
at("campaign").addEventListener("change", () => campaigns(shown.board?.campaigns ?? []));
theme();
every(EVERY_MS, refresh);
every(MAP_EVERY_MS, remap);
