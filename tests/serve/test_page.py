"""The page in a real browser: Debian's Chromium, driven by Playwright, against a service on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from served import Served, served

FIND = "#find"


@pytest.fixture(scope="module")
def shop(model_folder: Path) -> Iterator[Served]:
    with served(model_folder) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("the page is tested in Chromium, which is not installed: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def page_of(browser: Browser, shop: Served, **options: Any) -> Iterator[Page]:
    """The page once it shows a list. At the end: it asked nobody else, and the console holds nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    asked: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(shop.url)
    expect(page.locator("#results li").first).to_be_visible(timeout=60_000)
    yield page
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(shop.url).netloc}
    assert trouble == []
    context.close()


def pick(page: Page, words: str) -> None:
    """Choose an item by keyboard alone."""
    before = page.locator("#history .row").count()
    with page.expect_response(lambda answer: answer.url.endswith(f"&q={words}"), timeout=60_000):
        page.keyboard.type(words)  # slowly, the first letters may be searched for, too
    expect(page.locator("#hit-0 .id")).to_have_text(words, timeout=60_000)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#hit-0")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("#history .row")).to_have_count(before + 1)
    settled(page)


def settled(page: Page) -> None:
    """Wait for the newest list."""
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false", timeout=60_000)


def ids(page: Page) -> list[str]:
    """The ids that are listed."""
    return [line.split(" ")[0] for line in page.locator("#results .id").all_inner_texts()]


def asked_in_python(shop: Served, **options: Any) -> list[str]:
    """The ids that the model lists for the history of these tests."""
    model = shop.desks[-1].shop.recommender
    stamps = [1_700_000_000, 1_700_086_400]
    return [one.item for one in model.recommend(["k01", "k08"], 10, timestamps=stamps, **options).items]


def test_by_keyboard_from_two_items_to_an_explanation(browser: Browser, shop: Served) -> None:
    with page_of(browser, shop) as page:
        expect(page.locator("#found-title")).to_have_text("Popular here")
        page.keyboard.press("Tab")  # to the recommendations
        page.keyboard.press("Tab")  # API
        page.keyboard.press("Tab")
        expect(page.locator(FIND)).to_be_focused()
        pick(page, "k01")
        pick(page, "k08")
        expect(page.locator("#found-title")).to_have_text("Recommended next")
        assert ids(page) == asked_in_python(shop)
        assert page.locator("#history img").count() == 2
        expect(page.locator("#results img").first).to_have_js_property("complete", True)
        assert page.locator("#results img").first.evaluate("image => image.naturalWidth") > 0

        why = page.get_by_role("button", name="Why").first
        why.focus()
        page.keyboard.press("Enter")
        panel = page.get_by_role("region", name="Why")
        expect(panel).to_contain_text("Rank 1 of 34", timeout=60_000)
        expect(panel).to_contain_text("1 day later")
        assert panel.locator(".bars li").count() >= 4
        expect(why).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Enter")
        expect(panel).to_have_count(0)


def test_switches_change_the_list(browser: Browser, shop: Served) -> None:
    with page_of(browser, shop) as page:
        page.focus(FIND)
        pick(page, "k01")
        pick(page, "k08")
        page.get_by_role("radio", name="Pictures", exact=True).focus()
        page.keyboard.press("Space")
        settled(page)
        assert ids(page) == asked_in_python(shop, modalities=["image"])
        page.keyboard.press("ArrowLeft")  # the radio before it
        settled(page)
        assert ids(page) == asked_in_python(shop, modalities=["text"])
        page.get_by_role("switch", name="Neighbours").focus()
        page.keyboard.press("Space")
        settled(page)
        assert ids(page) == asked_in_python(shop, modalities=["text"], neighbours=False)
        page.get_by_role("switch", name="Only new items").click()
        settled(page)
        assert ids(page) == asked_in_python(shop, modalities=["text"], neighbours=False, exclude_seen=False)
        page.get_by_role("button", name="Show more").click()
        expect(page.locator("#results > li")).to_have_count(20)


def test_the_history_can_be_put_in_order_and_given_times(browser: Browser, shop: Served) -> None:
    def rows() -> list[str]:
        return page.locator("#history .id").all_inner_texts()

    with page_of(browser, shop) as page:
        page.focus(FIND)
        for item in ("k01", "k08", "k03"):
            pick(page, item)
        page.get_by_role("button", name="Earlier").nth(2).focus()
        page.keyboard.press("Enter")
        assert rows() == ["k01", "k03", "k08"]
        page.keyboard.press("Alt+ArrowUp")
        assert rows() == ["k03", "k01", "k08"]
        assert page.evaluate("() => document.activeElement.dataset.act") in ("up", "down")
        page.get_by_role("button", name="Remove").first.click()
        assert rows() == ["k01", "k08"]
        with page.expect_request("**/recommend") as sent:
            page.get_by_role("combobox", name="When").select_option(label="A week later")
        assert sent.value.post_data_json["timestamps"] == [1_700_000_000, 1_700_604_800]
        settled(page)
        page.get_by_role("button", name="Empty the history").click()
        expect(page.locator("#history .row")).to_have_count(0)
        expect(page.locator(FIND)).to_be_focused()


def test_a_phone_in_the_dark(browser: Browser, shop: Served) -> None:
    with page_of(browser, shop, color_scheme="dark") as page:
        page.set_viewport_size({"width": 360, "height": 740})
        page.focus(FIND)
        pick(page, "k01")
        page.get_by_role("button", name="Why").first.click()
        expect(page.get_by_role("region", name="Why")).to_contain_text("Rank", timeout=60_000)
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        ground, ink = page.evaluate(
            "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert (brightness(ground) < 40, brightness(ink) > 200) == (True, True)
        page.goto(f"{shop.url}/api")
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        page.goto(shop.url)


def brightness(colour: str) -> float:
    """The mean of the parts of ``rgb(r, g, b)``."""
    return sum(int(part) for part in colour[4:-1].split(",")) / 3


def test_a_mistake_is_told_and_the_page_goes_on(browser: Browser, shop: Served) -> None:
    context = browser.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(shop.url)
    page.focus(FIND)
    pick(page, "k01")
    page.route("**/recommend", lambda route: route.fulfill(status=422, json={"error": "told in one line"}))
    page.focus(FIND)
    pick(page, "k08")
    expect(page.get_by_role("alert")).to_have_text("This did not work: told in one line")
    page.unroute("**/recommend")
    page.get_by_role("button", name="Remove").last.click()
    expect(page.locator("#mistake")).to_be_hidden()
    settled(page)
    context.close()
