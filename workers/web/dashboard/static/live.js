// Server-sent events that go on by themselves: the browser connects again after a break.
export function follow(url, handlers, onState) {
  const source = new EventSource(url);
  source.addEventListener("open", () => onState?.(true));
  source.addEventListener("error", () => onState?.(false));
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  addEventListener("pagehide", () => source.close());
  return source;
}

// Send JSON; an answer that is no success becomes an Error with the server's own words.
export async function send(url, fields) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error ?? answer.statusText);
  return said;
}

// Put values into a text with {name} in it.
export function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
