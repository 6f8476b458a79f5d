// Moves and scales a drawn map by its viewBox; the graticule and the scale bar are drawn anew for every view.

const WIDTH = 1000, HEIGHT = 620, EARTH_M = 6371008.8, RAD = Math.PI / 180; // as receiver/draw.py
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000, 54000, 108000]; // seconds of arc
const SVG = "http://www.w3.org/2000/svg";

const make = (name, attributes, parent, text) => {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
};

const degrees = (seconds, step, letters) => {
  let s = Math.round(seconds);
  if (letters === "EW") s = ((s + 648000) % 1296000 + 1296000) % 1296000 - 648000;
  const a = Math.abs(s), two = (n) => String(n).padStart(2, "0");
  const letter = s === 0 ? "" : letters[s > 0 ? 0 : 1];
  const whole = `${Math.floor(a / 3600)}°`, minutes = `${two(Math.floor(a / 60) % 60)}′`;
  return whole + (step >= 3600 ? "" : minutes) + (step >= 60 ? "" : `${two(a % 60)}″`) + letter;
};

export const map = (box) => {
  if (!box) return () => {};
  const svg = box.querySelector("svg"), grid = svg.querySelector(".graticule"), bar = svg.querySelector(".bar");
  const here = svg.querySelector(".here");
  const lat0 = Number(box.dataset.lat0), lon0 = Number(box.dataset.lon0), metres = Number(box.dataset.metres);
  const k = (EARTH_M * Math.cos(lat0 * RAD)) / metres, north0 = Math.asinh(Math.tan(lat0 * RAD));
  const km = bar.querySelector("text").textContent.replace(/^[\d.]+\s*/, "");
  const names = { [Number(bar.querySelector("path").dataset.bar) >= 1000 ? "km" : "m"]: km };
  const inChinese = document.documentElement.lang.startsWith("zh");
  names.km ??= inChinese ? "公里" : "km";
  names.m ??= inChinese ? "米" : "m";
  const x = (lon) => WIDTH / 2 + k * (lon - lon0) * RAD, y = (lat) => HEIGHT / 2 - k * (Math.asinh(Math.tan(lat * RAD)) - north0);
  const lon = (at) => lon0 + (at - WIDTH / 2) / k / RAD, lat = (at) => Math.atan(Math.sinh((HEIGHT / 2 - at) / k + north0)) / RAD;

  let view; // [left, top, width, height] in units of the drawing
  const size = () => svg.getBoundingClientRect();

  const graticule = (u) => {
    const [left, top, width, height] = view;
    grid.replaceChildren();
    const line = (d, at, label, dx, dy) => {
      make("path", { d }, grid);
      make("text", { class: "fixed", x: dx, y: dy }, make("g", { transform: `translate(${at})` }, grid), label);
    };
    const across = (lon(left + width) - lon(left)) * 3600, pick = (wanted) => STEPS.find((s) => s >= wanted) ?? STEPS.at(-1);
    let step = pick((across * 130 * u) / width);
    for (let n = Math.ceil((lon(left) * 3600) / step); n * step < lon(left + width) * 3600; n++) {
      const at = x((n * step) / 3600);
      const label = at < left + width - 240 * u ? degrees(n * step, step, "EW") : ""; // the scale bar stands there
      line(`M${at} ${top}v${height}`, `${at} ${top + height}`, label, 4, -5);
    }
    const high = (lat(top) - lat(top + height)) * 3600;
    step = pick((high * 90 * u) / height);
    for (let n = Math.ceil((lat(top + height) * 3600) / step); n * step < lat(top) * 3600; n++) {
      const at = y((n * step) / 3600);
      if (at < top + height - 22 * u) line(`M${left} ${at}h${width}`, `${left} ${at}`, degrees(n * step, step, "NS"), 5, -4);
    }
  };

  const scale = (u) => {
    const most = metres * Math.cos(lat(view[1] + view[3] / 2) * RAD) / Math.cos(lat0 * RAD) * 170 * u;
    const power = 10 ** Math.floor(Math.log10(most)), length = [5, 2, 1].find((f) => f * power <= most) * power;
    const drawn = length / (metres * Math.cos(lat(view[1] + view[3] / 2) * RAD) / Math.cos(lat0 * RAD));
    bar.setAttribute("transform", `translate(${view[0] + view[2] - 14 * u} ${view[1] + view[3] - 14 * u})`);
    bar.querySelector("path").setAttribute("d", `M0 ${-6 * u}V0H${-drawn}V${-6 * u}`);
    bar.querySelector("text").textContent = length >= 1000 ? `${length / 1000} ${names.km}` : `${length} ${names.m}`;
  };

  const show = () => {
    const { width } = size();
    if (!width) return;
    const u = view[2] / width;
    svg.setAttribute("viewBox", view.map((v) => v.toFixed(3)).join(" "));
    box.style.setProperty("--u", u.toFixed(5));
    graticule(u);
    scale(u);
  };

  const whole = () => {
    const { width, height } = size(), u = Math.max(WIDTH / width, HEIGHT / height);
    view = [(WIDTH - width * u) / 2, (HEIGHT - height * u) / 2, width * u, height * u];
    show();
  };

  const zoom = (factor, px, py) => {
    const { width, height } = size(), fx = (px ?? width / 2) / width, fy = (py ?? height / 2) / height;
    const wide = Math.min(WIDTH * 6, Math.max(WIDTH / 400, view[2] * factor)), f = wide / view[2];
    view = [view[0] + fx * view[2] * (1 - f), view[1] + fy * view[3] * (1 - f), wide, view[3] * f];
    show();
  };

  const move = (dx, dy) => {
    const u = view[2] / size().width;
    view = [view[0] - dx * u, view[1] - dy * u, view[2], view[3]];
    show();
  };

  // pointers: one moves, two scale
  const down = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (e) => {
    down.set(e.pointerId, e);
    if (down.size === 1) moved = 0;
  });
  addEventListener("pointermove", (e) => {
    const before = down.get(e.pointerId);
    if (!before) return;
    const other = [...down.values()].find((p) => p.pointerId !== e.pointerId);
    if (other) {
      const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
      const is = Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY), { left, top } = size();
      if (is > 0) zoom(was / is, (e.clientX + other.clientX) / 2 - left, (e.clientY + other.clientY) / 2 - top);
    } else if (e.pointerType !== "touch") move(e.clientX - before.clientX, e.clientY - before.clientY);
    moved += Math.hypot(e.clientX - before.clientX, e.clientY - before.clientY);
    down.set(e.pointerId, e);
  });
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, (e) => down.delete(e.pointerId));
  svg.addEventListener("click", (e) => moved > 6 && e.preventDefault(), true); // a drag over a pin does not open it
  svg.addEventListener("dragstart", (e) => e.preventDefault());
  // One finger and the bare wheel scroll the page; two fingers, or the wheel with Ctrl or after a click, are the map's.
  svg.addEventListener("touchmove", (e) => e.touches.length > 1 && e.preventDefault(), { passive: false });
  svg.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !box.contains(document.activeElement)) return;
    e.preventDefault();
    const { left, top } = size();
    zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) / 250), e.clientX - left, e.clientY - top);
  }, { passive: false });

  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", svg.getAttribute("aria-label"));
  const keys = {
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7), 0: whole,
  };
  box.addEventListener("keydown", (e) => {
    if (!keys[e.key] || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    keys[e.key]();
  });
  const buttons = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), all: whole };
  for (const b of box.querySelectorAll("[data-zoom]")) b.addEventListener("click", buttons[b.dataset.zoom]);
  box.querySelector(".zoom").hidden = false;
  for (const e of document.querySelectorAll(".map-help")) e.hidden = false;
  box.classList.add("live");
  whole();
  new ResizeObserver(whole).observe(svg);

  return (spot) => {
    here.toggleAttribute("hidden", !spot);
    if (spot) here.setAttribute("transform", `translate(${spot[0]} ${spot[1]})`);
  };
};
