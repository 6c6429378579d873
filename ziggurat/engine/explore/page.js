// The page: the image, the position, and one or two networks.

import { ask, draw, upload } from "./api.js";
import { Panel } from "./panel.js";
import { readState, writeState } from "./state.js";

const SIZES = [64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024];
const find = selector => document.querySelector(selector);
let page, panels = [];

function fail(message) {
  find("#error").textContent = message;
  find("#error").hidden = !message;
}

function changed() {
  writeState(page.state);
  find("#x").value = Math.round(100 * page.state.x);
  find("#y").value = Math.round(100 * page.state.y);
}

function moved(x, y) {
  Object.assign(page.state, { x, y });
  panels.forEach(panel => panel.follow());
  changed();
}

function loadAll() {
  changed();
  panels.forEach(panel => { if (panel.own.model && panel.own.weights) panel.load(); });
}

function showGallery() {
  const { images } = page.choices;
  for (const { key, name } of images) {
    if (find("#gallery [data-key='" + CSS.escape(key) + "']")) continue;
    const button = document.createElement("button"), image = document.createElement("img");
    Object.assign(button, { type: "button", title: name });
    Object.assign(image, { alt: name });
    button.dataset.key = key;
    button.append(image);
    button.addEventListener("click", () => choose(key));
    find("#gallery").append(button);
    draw("/thumbnail", { image: key }).then(found => { image.src = found.url; }, () => {});
  }
  for (const button of [...find("#gallery").children]) {
    if (!images.some(image => image.key === button.dataset.key)) button.remove();
    button.setAttribute("aria-pressed", button.dataset.key === page.state.image);
  }
}

// The server keeps the last uploads only: older ones leave the gallery.
async function forgetOld() {
  const choices = await ask("/choices").catch(() => null);
  if (!choices) return;
  page.choices.images = choices.images;
  showGallery();
}

function choose(key) {
  page.state.image = key;
  fail("");
  showGallery();
  loadAll();
  forgetOld();
}

async function take(file) {
  if (!file) return;
  fail("");
  if (file.size > page.choices.upload) {
    fail(file.name + " has " + file.size + " bytes; allowed: up to " + page.choices.upload);
    return;
  }
  document.body.classList.add("working");
  try {
    const { key, name } = await upload(file);
    if (!page.choices.images.some(image => image.key === key)) page.choices.images.push({ key, name });
    choose(key);
  } catch (error) {
    fail(error.message);
  } finally {
    document.body.classList.remove("working");
  }
}

function showPanels() {
  panels = page.state.panels.map(own => new Panel(own, page));
  find("#panels").replaceChildren(...panels.map(panel => panel.element));
  find("#panels").classList.toggle("two", panels.length === 2);
  find("#compare").setAttribute("aria-pressed", panels.length === 2);
  loadAll();
}

function listen() {
  find("#compare").addEventListener("click", () => {
    const { panels: own } = page.state;
    page.state.panels = own.length === 2 ? [own[0]] : [own[0], { ...own[0], ...other(own[0].model) }];
    showPanels();
  });
  find("#file").addEventListener("change", event => {
    take(event.target.files[0]);
    event.target.value = "";
  });
  find("#size").addEventListener("change", event => {
    page.state.size = Number(event.target.value);
    loadAll();
  });
  for (const name of ["x", "y"]) {
    find("#" + name).addEventListener("change", event => {
      const value = Math.min(Math.max(Number(event.target.value) / 100, 0), 0.9999);
      const { x, y } = { ...page.state, [name]: value };
      moved(x, y);
    });
  }
  addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", event => {
    event.preventDefault();
    document.body.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  addEventListener("hashchange", () => { // an address that was typed
    Object.assign(page.state, readState(page.first));
    find("#size").value = page.state.size;
    showGallery();
    showPanels();
  });
}

// What to compare a network with at first: another one of the command line, else the smallest of the next family.
function other(model) {
  const { models, families } = page.choices;
  const next = models.find(name => name !== model);
  if (next) return { model: next, weights: "random" };
  const lists = Object.values(families), i = lists.findIndex(names => names.includes(model));
  return { model: lists[(i + 1) % lists.length][0], weights: "random" };
}

async function start() {
  try {
    const choices = await ask("/choices");
    const first = {
      page: { image: choices.images[0].key, size: choices.size },
      panel: choices.models.length ? { model: choices.models[0] } : {},
    };
    page = { choices, first, state: readState(first), changed, moved };
    const sizes = [...new Set([...SIZES, page.state.size])].sort((a, b) => a - b);
    find("#size").append(...sizes.map(size => new Option(size, size)));
    find("#size").value = page.state.size;
    listen();
    showGallery();
    showPanels();
  } catch (error) {
    fail(error.message);
  }
}

start();
