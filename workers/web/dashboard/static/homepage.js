// A user's page: buttons of cards send events, and the page changes when a new list arrives.
import { filled, follow, send } from "./live.js";

const page = document.getElementById("page");
const status = document.querySelector("[data-status]");
const path = `/api/users/${page.dataset.user}`;
let busy = false;
let missed = false;

page.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-type]");
  if (!button || busy) return;
  const card = button.closest(".card");
  busy = true;
  page.setAttribute("aria-busy", "true");
  card.classList.add("is-sent");
  say(status.dataset.sending, "");
  try {
    const position = Number(card.dataset.position) || null;
    const answer = await send(`${path}/events`, {
      item_id: card.dataset.item, type: button.dataset.type, list_id: page.dataset.list || null, position,
    });
    const isNew = answer.list_ms !== null;
    const n = replace(answer.html, answer.list_id);
    say(filled(isNew ? status.dataset.done : status.dataset.late, { ms: Math.round(answer.list_ms ?? 0), n }), isNew ? "good" : "");
  } catch (error) {
    card.classList.remove("is-sent");
    say(`${status.dataset.failed} ${error.message}`, "bad");
  } finally {
    busy = false;
    page.removeAttribute("aria-busy");
    if (missed) refresh();
  }
});

async function refresh() {
  if (busy) {
    missed = true;
    return;
  }
  missed = false;
  const answer = await fetch(`${path}/page`);
  if (!answer.ok) return;
  const said = await answer.json();
  if (said.list_id === page.dataset.list) return;
  const n = replace(said.html, said.list_id);
  say(filled(status.dataset.changed, { n }), "good");
}

// Put in the new page, keep the focus, and mark the cards that were not there before; return how many.
function replace(html, listId) {
  const before = new Set([...page.querySelectorAll("[data-item]")].map((card) => card.dataset.item));
  const focused = document.activeElement?.closest?.("button[data-type]");
  const place = focused ? [...page.querySelectorAll("button[data-type]")].indexOf(focused) : -1;
  const scrolled = [...page.querySelectorAll(".cards")].map((row) => row.scrollLeft);
  page.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  page.dataset.list = listId;
  page.querySelectorAll(".cards").forEach((row, number) => { row.scrollLeft = scrolled[number] ?? 0; });
  const added = [...page.querySelectorAll("[data-item]")].filter((card) => !before.has(card.dataset.item));
  for (const card of added) card.classList.add("is-new");
  if (place >= 0) {
    const buttons = page.querySelectorAll("button[data-type]");
    buttons[Math.min(place, buttons.length - 1)]?.focus({ preventScroll: true });
  }
  return added.length;
}

function say(text, kind) {
  status.textContent = text;
  status.className = `status ${kind}`;
}

follow(`${path}/live`, { list: refresh });
