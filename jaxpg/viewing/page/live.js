"use strict";
// Asks the server for the page again and again, and replaces the sections that have changed. What has not changed stays
// as it is: a video plays on, an opened list stays open, and nothing scrolls.
const main = document.querySelector("main");
const sources = new Map([...main.children].map((section) => [section, section.outerHTML]));
const news = document.createElement("p");
news.className = "quiet";
news.id = "live";
news.setAttribute("role", "status");
document.querySelector("header").after(news);
let tag = "";

function name(section) {
  return section.querySelector("h2").textContent;
}

function replaceWith(fresh) {
  document.title = fresh.title;
  document.querySelector("header").replaceWith(fresh.querySelector("header"));
  const now = [...main.children];
  const next = [...fresh.querySelector("main").children];
  const alike = now.length === next.length && now.every((section, i) => name(section) === name(next[i]));
  const before = new Map(now.map((section) => [name(section), section]));
  if (!alike) main.replaceChildren();
  next.forEach((section, i) => {
    const source = section.outerHTML;
    const old = before.get(name(section));
    const same = old !== undefined && sources.get(old) === source;
    const shown = same ? old : section;
    if (!same) {
      sources.set(section, source);
      for (const details of section.querySelectorAll("details")) {
        const words = details.querySelector("summary").textContent;
        const others = old ? [...old.querySelectorAll("details[open]")] : [];
        details.open = others.some((other) => other.querySelector("summary").textContent === words);
      }
    }
    if (!alike) main.append(shown);
    else if (!same) now[i].replaceWith(shown);
    if (!same) section.querySelectorAll("figure").forEach(listen);
  });
  for (const section of sources.keys()) if (!section.isConnected) sources.delete(section);
}

async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      replaceWith(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
    news.textContent = answer.status < 400 ? "This page stays current." : await answer.text();
  } catch {
    news.textContent = "The server does not answer. This page stays as it was.";
  }
  setTimeout(refresh, 2000);
}

setTimeout(refresh, 2000);
