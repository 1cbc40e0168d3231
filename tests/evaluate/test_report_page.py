"""The report as a person sees it: verdict on top, contents, dark mode, and a phone's width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eccos_rs.evaluate.report.html import as_html
from tests.helpers.browser import browser
from tests.helpers.evaluation import small_study

if TYPE_CHECKING:
    from pathlib import Path

CONTRAST = """(() => {
  const light = text => {
    const [r, g, b] = text.match(/\\d+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return ["body", "h2", "a", ".note", ".verdict b"].map(name => {
    const own = light(getComputedStyle(document.querySelector(name)).color);
    return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
  });
})()"""
"""Contrast of texts with the ground, as WCAG defines it; 4.5 is enough for small text."""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(as_html(small_study()), encoding="utf-8")
    return path


async def test_the_verdict_is_on_top_and_the_contents_lead_to_every_part(report: Path) -> None:
    study = small_study()
    async with browser(report.as_uri()) as page:
        await page.until("document.readyState === 'complete'")
        order = await page.ask("[...document.body.children].slice(0, 4).map(each => each.tagName)")
        assert order == ["H1", "P", "NAV", "SECTION"]
        assert study.worth is not None
        assert study.worth.sentence in await page.ask("document.querySelector('.verdict').textContent")
        parts = await page.ask("document.querySelectorAll('section').length")
        found = "[...document.querySelectorAll('nav a')].filter(a => document.querySelector(a.hash)).length"
        assert await page.ask(found) == parts == 9
        assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_in_the_dark_and_on_a_phone(report: Path, scheme: str) -> None:
    async with browser(report.as_uri()) as page:
        await page.until("document.readyState === 'complete'")
        await page.scheme(scheme)
        assert min(await page.ask(CONTRAST)) >= 4.5
        await page.size(360, 740)
        # Wide tables and figures scroll by themselves; the page does not.
        assert await page.ask("document.documentElement.scrollWidth") <= 360
        assert await page.ask("[...document.querySelectorAll('.table')].some(t => t.scrollWidth > 360)")
