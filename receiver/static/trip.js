// The trip page: the map moves, the curve reads out, and both and the table of events point at the same moment.

import { map } from "./map.js";
import { curve } from "./curve.js";

const place = map(document.querySelector("[data-map]"));
curve(document.querySelector(".scrub"), document.querySelector(".readout"), place);

// An event opens from its pin or its flag; what is chosen is marked in all three places.
const choose = (mark) => {
  for (const one of document.querySelectorAll("[data-mark]")) one.classList.toggle("chosen", one.dataset.mark === mark);
};
const open = () => {
  const mark = /^#event-(\d+)/.exec(location.hash)?.[1];
  if (!mark) return;
  const row = document.getElementById(`event-${mark}`);
  row?.querySelector("details")?.setAttribute("open", "");
  choose(mark);
};
for (const row of document.querySelectorAll("tbody[data-mark]")) {
  row.querySelector("details").addEventListener("toggle", (e) => e.target.open && choose(row.dataset.mark));
}
addEventListener("hashchange", open);
open();
