// What the page shows, in the address's hash, so that a reload keeps it.

const PANEL = { model: "van_b0", weights: "random", view: "components", stage: 2, block: 0, channel: 0, channels: -1, order: 0,
  head: 0, label: -1, score: 0.3, blend: 0.8 };
const PAGE = { image: "", size: 0, x: 0.5, y: 0.5 };

function taken(from, prefix, defaults) {
  const found = { ...defaults };
  for (const [name, value] of Object.entries(defaults)) {
    const text = from.get(prefix + name);
    if (text === null) continue;
    if (typeof value !== "number") found[name] = text;
    else if (text !== "" && Number.isFinite(Number(text))) found[name] = Number(text);
  }
  return found;
}

export function readState(first) {
  const hash = new URLSearchParams(location.hash.slice(1));
  const state = taken(hash, "", { ...PAGE, ...first.page });
  const names = ["a", ...(hash.has("b.model") ? ["b"] : [])];
  state.panels = names.map(name => taken(hash, name + ".", { ...PANEL, ...first.panel }));
  return state;
}

export function writeState(state) {
  const hash = new URLSearchParams();
  for (const name of Object.keys(PAGE)) hash.set(name, state[name]);
  state.panels.forEach((panel, i) => {
    for (const name of Object.keys(PANEL)) hash.set("ab"[i] + "." + name, panel[name]);
  });
  history.replaceState(null, "", "#" + hash);
}
