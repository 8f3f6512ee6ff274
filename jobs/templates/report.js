"use strict";
// Filter, toggles and evidence highlighting. Reads text, sets classes and `hidden`; never makes markup from text.
(() => {
  const tools = document.getElementById("tools");
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const cards = [...document.querySelectorAll(".card")];
  const queries = [...document.querySelectorAll(".query")];
  const buttons = [...tools.querySelectorAll("[data-only]")];
  const texts = new Map();
  tools.hidden = false;

  const textOf = (element) => {
    if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase().replace(/\s+/g, " "));
    return texts.get(element);
  };
  const flagsOf = (element) => (element.dataset.flags || "").split(/\s+/);

  function apply() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.only);
    const fits = (element) =>
      (only.length === 0 || only.some((flag) => flagsOf(element).includes(flag))) &&
      words.every((word) => textOf(element).includes(word));
    let items = 0;
    let asked = 0;
    for (const card of cards) items += !(card.hidden = !fits(card));
    for (const query of queries) asked += !(query.hidden = !fits(query));
    const parts = [`${items} of ${cards.length} items`];
    if (queries.length) parts.push(`${asked} of ${queries.length} queries`);
    shown.textContent = parts.join(", ");
    tools.classList.toggle("active", words.length + only.length > 0);
    for (const [name, n, all] of [["items", items, cards.length], ["queries", asked, queries.length]]) {
      const section = document.getElementById(name);
      if (section && all) section.hidden = n === 0;
    }
  }

  let waiting = 0;
  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 80);
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      apply();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== filter && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      filter.focus();
    }
  });

  // An attribute under the pointer or the focus lights up the words and the region it was read from.
  const light = (event, on) => {
    const chip = event.target.closest && event.target.closest(".chip");
    if (!chip) return;
    for (const place of chip.closest(".card").querySelectorAll("[data-chips]")) {
      if (place.dataset.chips.split(" ").includes(chip.dataset.chip)) place.classList.toggle("lit", on);
    }
  };
  for (const [name, on] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
    document.addEventListener(name, (event) => light(event, on));
  }
  apply();
})();
