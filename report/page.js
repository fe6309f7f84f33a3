"use strict";
(() => {
  const data = JSON.parse(document.getElementById("effnas-data").textContent);
  const tip = document.getElementById("tip"), pinned = document.getElementById("pinned");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const pins = [];
  const views = new Map();

  const make = (tag, words, kind) => {
    const element = document.createElement(tag);
    if (words !== undefined) element.textContent = words; // never as HTML: names are anybody's
    if (kind) element.className = kind;
    return element;
  };
  const isolated = (tag, words) => {
    const element = make(tag), inner = make("bdi", words);
    element.append(inner);
    return element;
  };

  // -- networks: pointed at, pinned ---------------------------------------------------------------------

  const tableOf = (network, other, beside = 1) => {
    // one fact a row, or as many as fit beside each other
    const table = make("table"), body = make("tbody");
    const theirs = new Map(other ? other.facts : []), rows = Math.ceil(network.facts.length / beside);
    for (let i = 0; i < rows; i++) {
      const row = make("tr");
      for (let k = i; k < network.facts.length; k += rows) {
        const [key, value] = network.facts[k];
        row.append(isolated("th", key), isolated("td", value));
        if (other && theirs.get(key) !== value) row.className = "differs";
      }
      body.append(row);
    }
    table.append(body);
    return table;
  };
  const nameOf = (network) => `${network.name} · ${network.run}`;

  const showTip = (index, x, y) => {
    const network = data.networks[index];
    tip.replaceChildren(isolated("strong", nameOf(network)), tableOf(network, undefined, network.facts.length > 14 ? 2 : 1));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? Math.max(4, x - 14 - box.width) : x + 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  };
  const hideTip = () => { tip.hidden = true; };

  const pin = (index) => {
    const at = pins.indexOf(index);
    if (at >= 0) pins.splice(at, 1);
    else { pins.push(index); if (pins.length > 2) pins.shift(); }
    showPins();
  };
  const showPins = () => {
    pinned.replaceChildren(...pins.map((index, i) => {
      const network = data.networks[index], other = data.networks[pins[1 - i]];
      const box = make("div"), head = make("h4"), close = make("button", "unpin");
      close.type = "button";
      close.addEventListener("click", () => pin(index));
      head.append(isolated("span", nameOf(network)), close);
      box.append(head, tableOf(network, other));
      return box;
    }));
    pinned.hidden = pins.length === 0;
  };
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (!tip.hidden) hideTip();
    else if (pins.length) { pins.length = 0; showPins(); }
  });

  // -- figures -----------------------------------------------------------------------------------------

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const configuration = () => {
    const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line"), page = colour("--page");
    return {
      background: page, font: "system-ui, sans-serif", view: { stroke: line },
      axis: { labelColor: soft, titleColor: ink, gridColor: line, domainColor: soft, tickColor: soft, gridOpacity: 0.5,
        labelFontSize: 11, titleFontSize: 12, titleFontWeight: 500 },
      legend: { labelColor: ink, titleColor: ink, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500,
        symbolStrokeColor: soft },
      text: { color: ink }, rule: { color: soft },
    };
  };
  const points = (view) => {
    // the marks of networks, in the order of their places from left to right
    const found = new Map(), origin = view.origin();
    const walk = (item, x, y) => {
      if (!item) return;
      if (item.marktype) { for (const one of item.items || []) walk(one, x, y); return; }
      if (item.mark && item.mark.marktype === "group") {
        for (const one of item.items || []) walk(one, x + (item.x || 0), y + (item.y || 0));
        return;
      }
      const network = item.datum && item.datum.network;
      if (item.mark && item.mark.marktype === "symbol" && Number.isInteger(network) && !found.has(network))
        found.set(network, { network, x: x + item.x + origin[0], y: y + item.y + origin[1] });
    };
    walk(view.scenegraph().root, 0, 0);
    return [...found.values()].sort((a, b) => a.x - b.x || b.y - a.y);
  };

  const draw = async (figure) => {
    const canvas = figure.querySelector(".canvas"), known = data.figures[Number(figure.dataset.figure)];
    const state = views.get(figure) || { at: -1 };
    if (state.view) state.view.finalize();
    const specification = { $schema: undefined, height: known.height - 40, ...known.spec };
    if (specification.autosize) specification.autosize = { type: "fit", contains: "padding" };
    specification.height = known.height;
    delete specification.$schema;
    const result = await window.vegaEmbed(canvas, specification, {
      mode: "vega-lite", renderer: "svg", actions: false, config: configuration(), tooltip: { theme: "custom" },
      loader: { load: () => Promise.reject(new Error("nothing is loaded")) },
    });
    state.view = result.view;
    views.set(figure, state);
    const box = figure.querySelector("input.hide");
    if (box && box.checked) await state.view.signal("hide", true).runAsync();
    state.view.addEventListener("mousemove", (event, item) => {
      const network = item && item.datum && item.datum.network;
      if (Number.isInteger(network)) showTip(network, event.clientX, event.clientY); else hideTip();
    });
    state.view.addEventListener("mouseout", hideTip);
    state.view.addEventListener("click", (event, item) => {
      const network = item && item.datum && item.datum.network;
      if (Number.isInteger(network)) { pin(network); hideTip(); }
    });
  };

  const begin = (figure) => {
    const canvas = figure.querySelector(".canvas");
    canvas.addEventListener("keydown", (event) => {
      const state = views.get(figure);
      if (!state) return;
      const found = points(state.view), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!found.length) return;
      if (step) {
        state.at = state.at < 0 ? (step > 0 ? 0 : found.length - 1) : (state.at + step + found.length) % found.length;
        const box = canvas.getBoundingClientRect(), one = found[state.at];
        showTip(one.network, box.left + one.x, box.top + one.y);
        event.preventDefault();
      } else if ((event.key === "Enter" || event.key === " ") && found[state.at]) {
        pin(found[state.at].network);
        event.preventDefault();
      }
    });
    canvas.addEventListener("blur", hideTip);
    const hide = figure.querySelector("input.hide");
    if (hide) hide.addEventListener("change", () => {
      const state = views.get(figure);
      if (state) { state.at = -1; state.view.signal("hide", hide.checked).runAsync(); }
    });
    for (const button of figure.querySelectorAll("[data-save]"))
      button.addEventListener("click", async () => {
        const state = views.get(figure);
        if (!state) return;
        const address = await state.view.toImageURL(button.dataset.save, 2);
        save(address, `${fileName(data.figures[Number(figure.dataset.figure)].title)}.${button.dataset.save}`);
      });
    return draw(figure);
  };

  // -- tables and files --------------------------------------------------------------------------------

  const fileName = (title) => title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "effnas";
  const save = (address, name) => {
    const link = make("a");
    link.href = address;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
  };
  const csvOf = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => {
    const words = cell.dataset.raw === undefined ? cell.textContent : cell.dataset.raw;
    return /[",\r\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
  }).join(",")).join("\r\n") + "\r\n";
  const copy = async (words) => {
    try { await navigator.clipboard.writeText(words); return true; } catch { /* an older way */ }
    const area = make("textarea");
    area.value = words;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const table of document.querySelectorAll("main table[data-name]")) {
    const button = make("button", "copy as CSV", "copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      const done = await copy(csvOf(table));
      button.textContent = done ? "copied" : "copying is not allowed here";
      setTimeout(() => { button.textContent = "copy as CSV"; }, 1500);
    });
    table.parentElement.after(button);
  }

  const all = async (work) => {
    for (const figure of document.querySelectorAll("figure[data-figure]")) {
      try { await work(figure); } catch (error) {
        console.error(error);
        figure.querySelector(".canvas").replaceChildren(make("p", `This figure cannot be drawn: ${error.message}`, "warning"));
      }
    }
    document.documentElement.dataset.drawn = "yes";
  };
  all(begin);
  dark.addEventListener("change", () => all(draw));
})();
