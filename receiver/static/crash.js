// The crash page: video, curves and map stand at one moment; a package that arrives tells how far it is.

import { map } from "./map.js";

const SVG = "http://www.w3.org/2000/svg";
const place = map(document.querySelector("[data-map]"));
const films = [...document.querySelectorAll("video[data-start]")];

const scrub = document.querySelector(".scrub");
if (scrub) {
  const read = JSON.parse(scrub.dataset.read), svg = scrub.querySelector(".trip-chart"), input = scrub.querySelector("input");
  const line = document.querySelector(".readout"), out = line.querySelector("output"), help = line.querySelector(".curve-help");
  const from = read.t[0], to = read.t.at(-1), last = read.t.length - 1;
  const plots = [...svg.querySelectorAll(":scope > .plot:not(.axis)")];
  const keys = [...document.querySelectorAll(".film .key-line .key")].map((k) => k.textContent.split(/[:：]/)[0]);
  const cursors = plots.map((plot) => {
    const cursor = document.createElementNS(SVG, "line");
    for (const [name, value] of [["class", "cursor"], ["y1", "0"], ["y2", "100%"]]) cursor.setAttribute(name, value);
    cursor.toggleAttribute("hidden", true);
    plot.append(cursor);
    return cursor;
  });
  const signed = (value, digits) => value.toFixed(digits).replace(/^-(0(\.0+)?)$/, "$1").replace("-", "−");
  const written = (name, value) => `${name} ${value === null || value === undefined ? "–" : `${signed(value, 0)} ${read.unit}`}`;

  const show = (t) => {
    const at = Math.max(from, Math.min(to, t)), i = Math.round((at - from) / (to - from) * last);
    const seconds = read.seconds.replace("{n}", (at > 0 ? "+" : "") + signed(at, 1));
    const change = read.lat.length ? [`${read.names[1]} ${written(keys[0], read.lon[i])}`, written(keys[1], read.lat[i])]
      : [written(read.names[1], read.lon[i])];
    const text = [seconds, written(read.names[0], read.speed[i]), ...change].join(" · ");
    out.textContent = text;
    out.hidden = false;
    help.hidden = true;
    input.value = i;
    input.setAttribute("aria-valuetext", text);
    for (const cursor of cursors) {
      cursor.removeAttribute("hidden");
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, `${(100 * (at - from)) / (to - from)}%`);
    }
    place(read.spot[i]);
  };

  // Where the video is, the curves are.
  const moment = (film) => Number(film.dataset.start) + film.currentTime;
  const follow = (film) => {
    const next = () => {
      if (film.paused || film.ended) return;
      show(moment(film));
      requestAnimationFrame(next);
    };
    film.addEventListener("play", () => {
      for (const other of films) if (other !== film) other.pause();
      next();
    });
    film.addEventListener("seeked", () => own.delete(film) || show(moment(film)));
  };
  const own = new Set(); // films that these curves have moved: they know already where they are
  films.forEach(follow);

  // And the other way round. What lies outside the video is shown by the curves alone.
  const go = (t) => {
    for (const film of films) {
      if (film.readyState === 0) film.load();
      const into = t - Number(film.dataset.start), end = Number(film.dataset.end) - Number(film.dataset.start);
      film.pause();
      if (into < 0 || into > end) continue;
      own.add(film);
      film.currentTime = into;
    }
    show(t);
  };
  const at = (e) => {
    const { left, width } = plots[0].querySelector("svg").getBoundingClientRect();
    return from + Math.max(0, Math.min(1, (e.clientX - left) / width)) * (to - from);
  };
  let held = false;
  scrub.addEventListener("pointerdown", (e) => {
    held = true;
    go(at(e));
  });
  addEventListener("pointermove", (e) => held && go(at(e)));
  const release = () => {
    if (held) input.focus({ preventScroll: true }); // the arrow keys go on from here
    held = false;
  };
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, release);
  input.addEventListener("input", () => go(read.t[Number(input.value)]));
  input.hidden = false;
  help.hidden = false;
}

// A package on its way: asked for every few seconds; when more is here, the page is made anew by the server.
const panel = document.querySelector("[data-progress]");
const parts = Object.fromEntries([...panel.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
const every = Number(panel.dataset.every) * 1000;
const watching = () => films.some((film) => !film.paused);
const ask = async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(panel.dataset.progress, { cache: "no-store", signal: AbortSignal.timeout(every * 2) });
    if (answer.status === 401) return location.reload(); // the session has ended: to the sign-in
    if (!answer.ok) throw new Error(String(answer.status));
    const now = await answer.json();
    if (now.version !== panel.dataset.version && !watching()) return location.reload();
    for (const name of ["label", "sentence"]) if (parts[name].textContent !== now[name]) parts[name].textContent = now[name];
    parts.percent.hidden = now.percent === null;
    parts.percent.value = now.percent ?? 0;
    parts.updates.hidden = true;
  } catch {
    parts.updates.hidden = false;
    parts.updates.textContent = panel.dataset.stale;
  }
};
setInterval(ask, every);
document.addEventListener("visibilitychange", ask);

const button = document.querySelector("[data-check]");
button?.toggleAttribute("hidden", false);
button?.addEventListener("click", async () => {
  button.disabled = true;
  button.textContent = button.dataset.busy;
  try {
    const answer = await fetch(button.dataset.check, { method: "POST", headers: { "X-Csrf": button.dataset.csrf } });
    if (!answer.ok) throw new Error(String(answer.status));
    location.reload();
  } catch {
    button.textContent = button.dataset.failed;
  }
});
