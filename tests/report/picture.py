"""The picture of docs/report.md, from the real results: `.venv/bin/python tests/report/picture.py`; needs Chromium."""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import attnpool

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs" / "report.png"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        attnpool.report([str(HERE / "results.jsonl")], output=str(file))
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1060, "height": 1560})
        page.goto(file.as_uri())
        page.locator("#scatter .scatterlayer .points path").nth(3).hover(force=True)
        page.wait_for_selector("#scatter .hovertext")
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
