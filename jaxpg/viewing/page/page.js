"use strict";
// Pointing at a chart, or moving through it with the arrow keys, says the value of the nearest thing drawn.
function listen(figure) {
  const drawing = figure.querySelector(".drawing");
  const svg = drawing.querySelector("svg");
  const tip = drawing.querySelector(".tip");
  const marks = JSON.parse(figure.querySelector("script").textContent);
  if (!marks.length) return;
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("r", "4");
  ring.setAttribute("class", "pointer");
  ring.setAttribute("visibility", "hidden");
  svg.append(ring);
  let shown = -1;

  function show(i) {
    shown = i;
    const [x, y, words] = marks[i];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    tip.textContent = words;
    tip.hidden = false;
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    const left = Math.min(Math.max(x * scale - tip.offsetWidth / 2, 0), svg.clientWidth - tip.offsetWidth);
    const above = y * scale - tip.offsetHeight - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 0 ? y * scale + 10 : above}px`;
  }

  function hide() {
    shown = -1;
    tip.hidden = true;
    ring.setAttribute("visibility", "hidden");
  }

  function point(event) {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let nearest = 0;
    let least = Infinity;
    marks.forEach(([markX, markY], i) => {
      const distance = (markX - x) ** 2 + ((markY - y) / 2) ** 2;
      if (distance < least) [nearest, least] = [i, distance];
    });
    show(nearest);
  }

  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    show((shown + by + marks.length) % marks.length);
  });
}

document.querySelectorAll("figure").forEach(listen);
