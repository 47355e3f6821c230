// Buttons that change something: each opens a dialog that asks first. Esc and "cancel" change nothing.
import { send } from "./live.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.opens) document.getElementById(button.dataset.opens).showModal();
  else if ("closes" in button.dataset) button.closest("dialog").close();
  else if (button.dataset.post) await act(button);
});

// While something runs on the server the page asks again, unless somebody is in a dialog.
if (document.querySelector("[data-running]")) {
  setInterval(() => document.querySelector("dialog[open]") || location.reload(), 4000);
}

async function act(button) {
  const dialog = button.closest("dialog");
  const said = dialog.querySelector("[data-said]");
  said.textContent = said.dataset.sending;
  button.disabled = true;
  try {
    await send(button.dataset.post, JSON.parse(button.dataset.fields || "{}"));
    location.reload();
  } catch (error) {
    said.textContent = `${said.dataset.failed} ${error.message}`;
    button.disabled = false;
  }
}
