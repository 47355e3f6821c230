// Shows the figures of the overview as they arrive, once a second.
import { follow } from "./live.js";

const POINTS = 60;
const root = document.querySelector("[data-overview]");
const language = document.documentElement.lang;
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const FORMS = {
  events_per_s: tenths, lists_per_s: tenths, freshness_p50_ms: tenths, freshness_p99_ms: tenths,
  lag_total: whole, hit_rate: percent, popular_hit_rate: percent, n_lists: whole,
};
const MAY_IDLE = new Set(["freshness_p50_ms", "hit_rate"]);
const seen = { events_per_s: [], lists_per_s: [] };

function show(figures) {
  const idle = figures.events_per_s === null ? root.dataset.none : root.dataset.idle;
  for (const [name, form] of Object.entries(FORMS)) {
    const value = figures[name];
    const known = value !== null && value !== undefined;
    for (const place of document.querySelectorAll(`[data-figure="${name}"]`)) {
      place.textContent = known ? form.format(value) : place.closest(".second") ? "–" : MAY_IDLE.has(name) ? idle : root.dataset.none;
      place.classList.toggle("unknown", !known);
    }
    for (const place of document.querySelectorAll(`[data-unit="${name}"]`)) place.hidden = !known;
    for (const place of document.querySelectorAll(`[data-meter="${name}"]`)) {
      place.hidden = !known;
      place.value = known ? value : 0;
    }
  }
  for (const name of Object.keys(seen)) draw(name, figures[name]);
  showLag(figures.lag);
  const alarms = document.querySelector("[data-alarms]");
  fill(alarms, figures.alarms?.map((name) => [name, "bad"]), figures.alarms ? alarms.dataset.none : alarms.dataset.unknown);
  const workers = document.querySelector("[data-workers]");
  fill(workers, figures.workers.map((one) => [`${one.address} · ${workers.dataset[one.state]}`, one.state === "ready" ? "good" : "bad"]), workers.dataset.none);
  const models = document.querySelector("[data-models]");
  fill(models, Object.entries(figures.models).map(([kind, version]) => [`${kind} · ${version}`, ""]), models.dataset.none);
}

function draw(name, value) {
  if (value === null || value === undefined) return;
  const points = seen[name];
  points.push(value);
  if (points.length > POINTS) points.shift();
  const most = Math.max(...points, 1e-9);
  const at = points.map((one, number) => `${((number / (POINTS - 1)) * 120).toFixed(1)},${(30 - (one / most) * 28).toFixed(1)}`);
  document.querySelector(`[data-line="${name}"] polyline`).setAttribute("points", at.join(" "));
}

function showLag(lag) {
  const most = Math.max(1, ...Object.values(lag ?? {}));
  for (const meter of document.querySelectorAll("[data-partition]")) {
    const value = lag?.[meter.dataset.partition];
    meter.max = most;
    meter.value = value ?? 0;
    document.querySelector(`[data-partition-value="${meter.dataset.partition}"]`).textContent = value === undefined ? "–" : whole.format(value);
  }
}

function fill(list, rows, none) {
  const wanted = rows?.length ? rows : [[none, "unknown"]];
  const shown = JSON.stringify(wanted);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...wanted.map(([text, kind]) => {
    const line = document.createElement("li");
    line.textContent = text;
    if (kind) line.className = kind;
    return line;
  }));
}

const live = document.querySelector("[data-live]");
follow(root.dataset.overview, { figures: show }, (on) => {
  live.classList.toggle("on", on);
  live.querySelector("[data-live-text]").textContent = on ? live.dataset.on : live.dataset.off;
});
