// One network: its menus, the views that it has, and the picture.

import { ask, draw } from "./api.js";

const FILE = "a file";
const ONLY_IMAGE = ["image", "components", "strength", "channel"]; // a click in these shows the likeness

// Channels, height and width.
const sizes = stage => [stage.channels, stage.height, stage.width].join(" × ");

// The end of a long path.
function short(name) {
  const parts = name.split(/[/\\]/);
  return parts.length > 2 ? "…/" + parts.slice(-2).join("/") : name;
}

export class Panel {
  // own: this panel's part of the state. page: {state, choices, changed, moved}.
  constructor(own, page) {
    this.own = own;
    this.page = page;
    this.facts = null;
    this.waiting = {};
    this.element = document.querySelector("#panel").content.firstElementChild.cloneNode(true);
    this.find = selector => this.element.querySelector(selector);
    this.fillModels();
    this.listen();
  }

  fillModels() {
    const { models, families } = this.page.choices;
    const select = this.find(".model");
    const archs = Object.values(families).flat();
    const group = (label, names) => {
      const element = document.createElement("optgroup");
      element.label = label;
      element.append(...names.map(name => new Option(short(name), name)));
      if (names.length) select.append(element);
    };
    group("Of the command line", models);
    for (const [family, names] of Object.entries(families)) group(family, names);
    group("Of this machine", [FILE]);
    this.known = [...models, ...archs];
    select.value = this.known.includes(this.own.model) ? this.own.model : FILE;
    this.fillWeights();
  }

  fillWeights() {
    const { own } = this;
    const isFile = !this.known.includes(own.model);
    const isArch = Object.values(this.page.choices.families).flat().includes(own.model);
    const names = this.page.choices.weights.filter(name => name.startsWith(own.model + "."));
    const select = this.find(".weights");
    select.replaceChildren(...["random", ...names, FILE].map(name => new Option(name, name)));
    const ofFile = isArch && !["random", ...names].includes(own.weights);
    select.value = ofFile ? FILE : own.weights;
    select.parentElement.hidden = !isArch;
    this.find(".path").hidden = !(isFile || ofFile);
    this.find("input.path").value = isFile ? own.model : ofFile ? own.weights : "";
  }

  listen() {
    const { own } = this;
    this.find(".model").addEventListener("change", event => {
      own.model = event.target.value === FILE ? "" : event.target.value;
      own.weights = "random";
      own.label = -1;
      this.reopen();
    });
    this.find(".weights").addEventListener("change", event => {
      own.weights = event.target.value === FILE ? "" : event.target.value;
      own.label = -1;
      this.reopen();
    });
    const open = () => {
      own[this.find(".model").value === FILE ? "model" : "weights"] = this.find("input.path").value.trim();
      this.reopen();
    };
    this.find(".path button").addEventListener("click", open);
    this.find("input.path").addEventListener("keydown", event => { if (event.key === "Enter") open(); });
    for (const name of ["view", "stage", "head", "order", "label", "block", "channel", "channels", "score", "blend"]) {
      this.find("." + name).addEventListener("input", event => {
        own[name] = name === "view" ? event.target.value : Number(event.target.value);
        this.redraw(event.target.type === "range" ? 60 : 0);
      });
    }
    const frame = this.find(".frame");
    frame.addEventListener("click", event => {
      const box = this.find(".frame img").getBoundingClientRect();
      this.move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    frame.addEventListener("keydown", event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const stage = this.facts && this.facts.stages[own.stage];
      if (!step || !stage || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const { x, y } = this.page.state; // to the middle of the next position
      const next = (value, count, by) => (Math.min(Math.floor(value * count), count - 1) + by + 0.5) / count;
      this.move(next(x, stage.width, step[0]), next(y, stage.height, step[1]));
    });
  }

  move(x, y) {
    const view = this.view();
    if (!view || ["filters", "prediction"].includes(view.name)) return;
    const inside = value => Math.min(Math.max(value, 0), 0.9999);
    this.page.moved(inside(x), inside(y));
  }

  // The position of the page has changed.
  follow() {
    if (ONLY_IMAGE.includes(this.own.view)) this.own.view = "likeness";
    if (this.facts) this.redraw();
  }

  reopen() {
    this.fillWeights();
    this.page.changed();
    if (this.own.model && this.own.weights) this.load();
    else this.find("input.path").focus();
  }

  request() {
    const { image, size, x, y } = this.page.state;
    return { image, size, x, y, ...this.own };
  }

  // One of the newest requests of a kind at a time: an older one is given up.
  async latest(kind, make) {
    this.waiting[kind]?.abort();
    const now = (this.waiting[kind] = new AbortController());
    this.working(true);
    try {
      const found = await make(now.signal);
      return now.signal.aborted ? null : found;
    } catch (error) {
      if (error.name !== "AbortError" && !now.signal.aborted) this.fail(error.message, kind === "facts");
      return null;
    } finally {
      if (this.waiting[kind] === now) delete this.waiting[kind];
      this.working(Object.keys(this.waiting).length > 0);
    }
  }

  working(is) {
    this.element.classList.toggle("working", is);
    this.find(".frame").setAttribute("aria-busy", is);
    this.find(".busy").textContent = is ? "computing" : "";
  }

  // Says what the server refused. What is shown of another network or image goes.
  fail(message, isEmpty = false) {
    if (isEmpty) {
      this.facts = null;
      this.element.classList.add("empty");
    }
    this.find(".error")?.remove();
    if (!message) return;
    const line = document.createElement("p");
    line.className = "error";
    line.setAttribute("role", "alert");
    line.textContent = message;
    this.find("figure").before(line);
  }

  async load() {
    this.fail("");
    this.waiting.picture?.abort();
    const facts = await this.latest("facts", signal => ask("/facts", this.request(), signal));
    if (!facts) return;
    this.facts = facts;
    this.element.classList.remove("empty");
    this.find(".facts").textContent = facts.arch + " (" + facts.family + "), " +
      (facts.parameters / 1e6).toFixed(1) + " M parameters, " +
      (facts.weights === "random" ? "random weights" : "weights " + short(facts.weights)) + ", input " + facts.input.join(" × ");
    this.find(".facts").title = facts.weights;
    this.element.setAttribute("aria-label", "Network " + facts.arch);
    this.find(".view").replaceChildren(...facts.views.map(view => new Option(view.title, view.name)));
    this.find(".stage").replaceChildren(...facts.stages.map((stage, i) =>
      new Option(i + ": " + sizes(stage), i)));
    const percent = value => (100 * value).toFixed(1) + " %";
    this.find(".label").replaceChildren(...facts.classes.map(found =>
      new Option(found.name + ", " + percent(found.score), found.label)));
    this.showScores(percent);
    await this.redraw();
    this.showStrip();
  }

  showScores(percent) {
    const best = this.facts.classes.slice(0, 5).map(found => {
      const button = document.createElement("button");
      const [name, score, bar] = ["span", "span", "meter"].map(tag => document.createElement(tag));
      button.type = "button";
      button.dataset.label = found.label;
      name.textContent = found.name;
      score.textContent = percent(found.score);
      bar.value = found.score;
      bar.setAttribute("aria-hidden", "true");
      button.append(name, score, bar);
      button.addEventListener("click", () => {
        Object.assign(this.own, { view: "class", label: found.label });
        this.redraw();
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    this.find(".scores").replaceChildren(...best);
  }

  showStrip() {
    const { facts } = this;
    for (const image of this.element.querySelectorAll(".strip img")) URL.revokeObjectURL(image.src);
    this.find(".strip").replaceChildren(...facts.stages.map((stage, i) => {
      const button = document.createElement("button");
      const image = document.createElement("img");
      image.alt = "";
      button.type = "button";
      button.append(image, "stage " + i + ": " + sizes(stage));
      button.addEventListener("click", () => {
        this.own.stage = i;
        if (!this.view().controls.includes("stage")) this.own.view = "components";
        this.redraw();
      });
      const wanted = { ...this.request(), view: "components", stage: i, blend: 1, side: 320 };
      draw("/picture", wanted).then(found => { image.src = found.url; }, () => {});
      return button;
    }));
    this.mark();
  }

  view() {
    const views = this.facts ? this.facts.views : [];
    return views.find(view => view.name === this.own.view) || views.find(view => view.name === "components");
  }

  // Makes the choices fit the network, and shows the controls that the view has.
  settle() {
    const { own, facts } = this;
    const clamp = (name, low, high) => { own[name] = Math.min(Math.max(Math.round(own[name]), low), high); };
    clamp("stage", 0, facts.stages.length - 1);
    const isThere = (view, stage) => ONLY_IMAGE.concat("likeness", "class", "prediction").includes(view) ||
      view in facts.stages[stage].parts;
    own.view = this.view().name;
    if (!isThere(own.view, own.stage)) {
      own.stage = facts.stages.findIndex((_, i) => isThere(own.view, i));
    }
    const view = this.view(), stage = facts.stages[own.stage], part = stage.parts[own.view] || {};
    clamp("block", 0, stage.blocks - 1);
    clamp("order", 0, own.view === "gates" ? part.channels.length - 1 : 99);
    clamp("head", 0, own.view === "vicinity" ? part.heads - 1 : 99);
    const count = part.channels ? part.channels[own.view === "gates" ? own.order : 0] : stage.channels;
    if (view.controls.includes("channel")) clamp("channel", 0, count - 1);
    if (view.controls.includes("channels")) clamp("channels", -1, count - 1);
    if (facts.classes.length && !facts.classes.some(found => found.label === own.label)) {
      own.label = facts.classes[0].label;
    }
    for (const element of this.element.querySelectorAll("[data-control]")) {
      element.hidden = !view.controls.includes(element.dataset.control);
    }
    const numbers = (name, length) => {
      this.find("." + name).replaceChildren(...Array.from({ length }, (_, i) => new Option(i, i)));
    };
    if (own.view === "gates") numbers("order", part.channels.length);
    if (own.view === "vicinity") numbers("head", part.heads);
    for (const option of this.find(".stage").options) option.disabled = !isThere(own.view, Number(option.value));
    this.find(".block").max = stage.blocks - 1;
    this.find(".channel").max = this.find(".channels").max = count - 1;
    for (const name of ["view", "stage", "head", "order", "label", "block", "channel", "channels", "score", "blend"]) {
      this.find("." + name).value = own[name];
    }
    const say = (name, text) => { this.find("[data-control=" + name + "] .value").textContent = text; };
    const of = (value, last) => value + " (0 to " + last + ")";
    say("block", of(own.block, stage.blocks - 1));
    say("channel", of(own.channel, count - 1));
    say("channels", own.channels < 0 ? "all" : of(own.channels, count - 1));
    say("score", own.score.toFixed(2));
    say("blend", Math.round(100 * own.blend) + " %");
    this.find(".help").textContent = view.help;
    this.find(".frame").classList.toggle("plain", ["filters", "prediction"].includes(view.name));
    this.mark();
  }

  mark() {
    const { own } = this, staged = this.view().controls.includes("stage");
    [...this.find(".strip").children].forEach((button, i) =>
      button.setAttribute("aria-pressed", staged && i === own.stage));
    for (const button of this.element.querySelectorAll(".scores button"))
      button.setAttribute("aria-pressed", own.view === "class" && Number(button.dataset.label) === own.label);
  }

  async redraw(wait = 0) {
    if (!this.facts) return;
    this.settle();
    this.page.changed();
    const found = await this.latest("picture", async signal => {
      if (wait) await new Promise(resolve => setTimeout(resolve, wait));
      return signal.aborted ? null : draw("/picture", this.request(), signal);
    });
    if (!found) return;
    this.fail("");
    const image = this.find(".frame img"), save = this.find(".save"), view = this.view();
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = found.url;
    image.alt = view.title + " of " + this.facts.arch + (view.controls.includes("stage") ? ", stage " + this.own.stage : "");
    this.find(".frame").setAttribute("aria-label", image.alt + ". Click, or use the arrow keys, to choose a position.");
    const [low, high] = this.element.querySelectorAll(".scale span");
    this.find(".scale").hidden = !found.range;
    if (found.range) [low.textContent, high.textContent] = found.range;
    Object.assign(save, { href: found.url, download: found.name, hidden: false });
  }
}
