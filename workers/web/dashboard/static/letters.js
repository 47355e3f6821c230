// Redriving dead letters: a dry run says what would become of them, and only then can they be sent.
import { filled, send } from "./live.js";

const desk = document.querySelector("[data-redrive]");
if (desk) {
  const said = desk.querySelector("[data-said]");
  const left = desk.querySelector("[data-left]");
  const [dry, wet] = [desk.querySelector("[data-dry]"), desk.querySelector("[data-wet]")];

  const run = async (dryRun) => {
    said.textContent = desk.dataset.working;
    left.replaceChildren();
    dry.disabled = wet.disabled = true;
    try {
      const { kind, topic, minutes } = desk.dataset;
      const done = await send(desk.dataset.redrive, { kind, topic, minutes, dry_run: dryRun });
      const counts = Object.entries(done.counts).map(([outcome, n]) => `${outcome} ${n}`).join(", ");
      said.textContent = filled(dryRun ? desk.dataset.would : desk.dataset.became, { counts: counts || "0" });
      left.replaceChildren(...done.left.map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }));
      wet.hidden = !dryRun || !done.counts.redrivable;
    } catch (error) {
      said.textContent = `${desk.dataset.failed} ${error.message}`;
    } finally {
      dry.disabled = wet.disabled = false;
    }
  };
  dry.addEventListener("click", () => run(true));
  wet.addEventListener("click", () => run(false));
}
