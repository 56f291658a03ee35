"""Watching a page: what it fetched and complained of, and what is measurable of accessibility."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from playwright.sync_api import Page

_LOW_CONTRAST = """
() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const over = (front, back) =>
    front.rgb.map((c, i) => c * front.alpha + back[i] * (1 - front.alpha));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => {
      const s = c / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(channels(getComputedStyle(e).backgroundColor));
    }
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const low = [];
  for (const element of document.querySelectorAll("body *:not(script):not(style)")) {
    if (element.closest("svg, .unseen, .skip")) continue;
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!element.checkVisibility()) continue;
    const back = background(element);
    const front = over(channels(getComputedStyle(element).color), back);
    const [a, b] = [luminance(front), luminance(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const text = element.textContent.trim().slice(0, 40);
    if (ratio < 4.5) low.push(`${element.className} ${ratio.toFixed(2)}: ${text}`);
  }
  return low;
}
"""

_UNNAMED = """
() => [...document.querySelectorAll("button, a, progress, [role=img], [role=region], table, nav")]
  .filter((e) => {
    const labelled = e.getAttribute("aria-labelledby");
    const name = e.getAttribute("aria-label")
      ?? (labelled && document.getElementById(labelled)?.textContent)
      ?? (e.matches("table") ? e.caption?.textContent : e.textContent);
    return !name?.trim();
  })
  .map((e) => e.outerHTML.slice(0, 120))
"""

_HEADINGS = """
() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((h) => Number(h.tagName[1]))
"""

_REPEATED_IDS = """
() => {
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  return ids.filter((id, i) => ids.indexOf(id) !== i);
}
"""


def findings(page: Page) -> list[str]:
    """Everything wrong that can be measured: contrast below 4.5, no name, headings out of order."""
    found = [f"contrast {line}" for line in page.evaluate(_LOW_CONTRAST)]
    found += [f"without a name: {element}" for element in page.evaluate(_UNNAMED)]
    found += [f"id used twice: {name}" for name in page.evaluate(_REPEATED_IDS)]
    headings = page.evaluate(_HEADINGS)
    if headings[:1] != [1] or headings.count(1) != 1:
        found.append(f"there must be one h1, and it comes first: {headings}")
    for before, after in pairwise(headings):
        if after - before > 1:
            found.append(f"headings jump from h{before} to h{after}")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        found.append(f"the page is {wide} px wider than the screen")
    if page.get_attribute("html", "lang") != "en":
        found.append("the language of the page is not stated")
    return found


@dataclass
class Watched:
    """A page, and everything that it should not have done."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(f"{message.type}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => console.error("
            "'policy: ' + e.violatedDirective + ' ' + e.blockedURI))"
        )

    def drawn(self) -> int:
        """How many charts have been drawn, each with something in it."""
        return int(
            self.page.evaluate(
                "[...document.querySelectorAll('.plot')].filter(p => p.offsetHeight > 100"
                " && p.querySelectorAll('svg path').length > 5).length"
            )
        )
