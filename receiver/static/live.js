// Keeps the live state of a vehicle fresh: asks the receiver every few seconds, writes plain text, never markup.

const panel = document.querySelector("[data-live]");
const parts = Object.fromEntries([...panel.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
const every = Number(panel.dataset.every) * 1000;
const calm = parts.updates.textContent;
parts.updates.hidden = false;

const say = (element, text) => {
  if (element && element.textContent !== text) element.textContent = text;
};

const ask = async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(panel.dataset.live, { cache: "no-store", signal: AbortSignal.timeout(every * 2) });
    if (answer.status === 401) return location.reload(); // the session has ended: to the sign-in
    if (!answer.ok) throw new Error(String(answer.status));
    const now = await answer.json();
    // A trip or an event has arrived: its row is made by the server.
    if (now.version !== panel.dataset.version) return location.reload();
    for (const name of ["label", "seen", "speed", "unit", "position", "position_age"]) say(parts[name], now[name]);
    parts.state.className = `state ${now.state}`;
    panel.classList.remove("stale");
    say(parts.updates, calm);
  } catch {
    panel.classList.add("stale");
    say(parts.updates, panel.dataset.stale);
  }
};

setInterval(ask, every);
document.addEventListener("visibilitychange", ask);
