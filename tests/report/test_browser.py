"""The page in a real browser: nothing is loaded, nothing fails, pointing, clicking and keys work, names are text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from other_folders import OTHERS
from run_folders import HOSTILE, MAKERS, make_search, make_training

from effnas import run_report

pytestmark = [pytest.mark.slow, pytest.mark.pictures]

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser (playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    runs = [str(make(folder / name)) for name, make in MAKERS.items()]
    hostile = str(make_search(folder / HOSTILE[2][:40].replace("/", ""), hostile=True))
    others = [
        str(make(folder / f"{name}{'-hostile' * bad}", hostile=bad))
        for name, (make, _) in OTHERS.items()
        for bad in (False, True)
    ]
    trainings = [str(make_training(folder / f"seed{seed}")) for seed in (0, 1)]
    found = {
        "trainings": trainings,
        "all": [*runs, hostile],
        "search": [runs[0]],
        "hostile": [hostile],
        "others": others,
    }
    for name, given in found.items():
        run_report(given, output=folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in found}


def open_page(browser: Any, file: Path, width: int = 1200, scheme: str = "light") -> tuple[Any, list[str]]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=60_000)
    return page, wrong


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["all", "others", "trainings"])
def test_all_figures_are_drawn_without_a_word_on_the_console(
    browser: Any, pages: dict[str, Path], which: str, width: int, scheme: str
) -> None:
    page, wrong = open_page(browser, pages[which], width, scheme)
    assert page.locator("figure").count() == page.locator(".canvas svg").count() >= (3 if which == "trainings" else 10)
    assert page.locator(".canvas .warning").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert wrong == []


def find_points(page: Any) -> Any:
    return page.locator("figure.wide").first.locator(".canvas svg path[aria-roledescription=point]")


def test_pointing_clicking_hiding_and_keys(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    page, wrong = open_page(browser, pages["search"])
    points = find_points(page)
    before = points.count()
    points.nth(2).hover(force=True)
    tip = page.locator("#tip")
    assert "accuracy" in tip.inner_text()
    assert " M" in tip.inner_text()
    assert "block0_" in tip.inner_text()
    points.nth(2).click(force=True)
    points.nth(9).click(force=True)
    pinned = page.locator("#pinned > div")
    assert pinned.count() == 2
    assert page.locator("#pinned .differs").count() > 0
    pinned.first.get_by_role("button").click()
    assert pinned.count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert not page.locator("#pinned").is_visible()
    page.locator("input.hide").check()
    page.wait_for_function(
        "before => document.querySelector('figure.wide').querySelectorAll("
        "'path[aria-roledescription=point]').length < before",
        arg=before,
    )
    canvas = page.locator("figure.wide").first.locator(".canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    page.keyboard.press("Enter")
    assert pinned.count() == 1
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with page.expect_download() as download:
            page.locator(f"[data-save={kind}]").first.click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        assert saved.name == f"Accuracy-against-MACs.{kind}"
        assert saved.read_bytes().startswith(start)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button.copy").first.click()
    page.wait_for_function("document.querySelector('button.copy').textContent === 'copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("trial,accuracy,MACs,parameters,activations,latency,score\r\n")
    assert "1000000" in copied
    assert wrong == []


def test_hostile_names_are_shown_as_text(browser: Any, pages: dict[str, Path]) -> None:
    page, wrong = open_page(browser, pages["hostile"])
    find_points(page).nth(2).hover(force=True)
    shown = page.locator("#tip").inner_text()
    assert HOSTILE[0] in shown
    assert HOSTILE[1] in shown
    find_points(page).nth(2).click(force=True)
    assert HOSTILE[1] in page.locator("#pinned").inner_text()
    bars = page.locator("figure", has_text="Importance of the decisions").locator("svg path[aria-roledescription=bar]")
    bars.first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert wrong == []


def test_it_prints(browser: Any, pages: dict[str, Path]) -> None:
    page, wrong = open_page(browser, pages["search"], scheme="dark")
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".tools").first.is_visible()
    assert wrong == []
