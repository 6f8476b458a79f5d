// Reads the trip's curve out: by pointer, by touch, and by keyboard through a range input.

const SVG = "http://www.w3.org/2000/svg";

export const curve = (box, line, place) => {
  if (!box) return;
  const read = JSON.parse(box.dataset.read), svg = box.querySelector(".trip-chart"), input = box.querySelector("input");
  const out = line.querySelector("output"), help = line.querySelector(".curve-help"), last = read.time.length - 1;
  const plots = [...svg.querySelectorAll(":scope > .plot:not(.axis)")].slice(0, 2);
  const cursors = plots.map((plot) => {
    const cursor = document.createElementNS(SVG, "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", "0");
    cursor.setAttribute("y2", "100%");
    cursor.toggleAttribute("hidden", true);
    plot.append(cursor);
    return cursor;
  });
  const written = (value, digits, unit) => {
    if (value === null) return "–";
    return `${value.toFixed(digits).replace(/^-(0(\.0+)?)$/, "$1").replace("-", "−")} ${unit}`;
  };
  const names = [...document.querySelectorAll(".key-line .key")].map((k) => k.textContent.split(/[:：]/)[0]);

  const show = (i) => {
    const [kmh, mps2] = read.units;
    const text = [
      read.time[i], written(read.speed[i], 0, kmh),
      `${names[0]} ${written(read.lon[i], 1, mps2)}`, `${names[1]} ${written(read.lat[i], 1, mps2)}`,
    ].join(" · ");
    out.textContent = text;
    out.hidden = false;
    help.hidden = true;
    input.value = i;
    input.setAttribute("aria-valuetext", text);
    for (const cursor of cursors) {
      cursor.removeAttribute("hidden");
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, `${(100 * (i + 0.5)) / (last + 1)}%`);
    }
    place(read.spot[i]);
  };
  const at = (e) => {
    const { left, width } = plots[0].querySelector("svg").getBoundingClientRect();
    show(Math.max(0, Math.min(last, Math.floor(((e.clientX - left) / width) * (last + 1)))));
  };
  box.addEventListener("pointermove", at);
  box.addEventListener("pointerdown", at);
  input.addEventListener("input", () => show(Number(input.value)));
  input.hidden = false;
  help.hidden = false;
};
