"""Pictures of the served page for README and docs: light, dark, and on a phone.

    mmm4rec prep demo && mmm4rec prep embed demo --text-encoder all-MiniLM-L6-v2 --image-encoder efficientnet-lite0
    mmm4rec train --dataset=demo --config_files="properties/model/MMM4Rec-small.yaml properties/dataset/demo.yaml" \\
        --neighbour_weight=0.3
    mv saved/MMM4Rec-… demo-shop && mmm4rec serve demo-shop
    python docs/screenshots.py --items p0000003 p0000012 p0000040

Needs the tests' Playwright and Debian's Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

OUT = Path(__file__).parent / "images"
VIEWS = {
    "serve-page": {"viewport": {"width": 1280, "height": 860}},
    "serve-page-dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "serve-phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "device_scale_factor": 1.5},
}
"""File → how the browser is set."""


def main() -> int:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (%(default)s)")
    parser.add_argument("--items", nargs="+", required=True, metavar="ID", help="the history, oldest first")
    parser.add_argument("--out", type=Path, default=OUT, help="(%(default)s)")
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, options in VIEWS.items():
            page = browser.new_context(**options).new_page()
            page.set_default_timeout(60_000)
            page.goto(given.url)
            show(page, given.items[-2:] if "phone" in name else given.items)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(given.out / f"{name}.png", optimize=True)
        browser.close()
    return 0


def show(page: Page, items: list[str]) -> None:
    """Choose a history and open why the first item is there."""
    for number, item in enumerate(items, 1):
        page.fill("#find", item)
        expect(page.locator("#hit-0 .id")).to_have_text(item, timeout=60_000)
        page.click("#hit-0")
        expect(page.locator("#history .row")).to_have_count(number)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false", timeout=60_000)
    page.get_by_role("button", name="Why").first.click()
    expect(page.get_by_role("region", name="Why")).to_contain_text("Rank", timeout=60_000)
    page.mouse.move(0, 0)
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    raise SystemExit(main())
