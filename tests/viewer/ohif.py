"""OHIF in a headless browser, used as a reader uses it: open a study, double-click a result, scroll to a slice."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from tests.viewer.overlays import Canvas, Color, Picture, solid_region

_SLICE = re.compile(r"I:\s*(\d+)\s*\((\d+)/(\d+)\)")
_SECONDS = 60.0


@dataclass(frozen=True)
class View:
    """What a reader sees.

    Attributes:
        picture: (height, width, 3) the whole page.
        canvas: Where the image is on it.
        instance_number: Of the shown slice, as the viewer says.
        directions: Letters of the patient's side at the top and at the left.
        structures: Colour of each structure in the list of segmentations, by name.
    """

    picture: Picture
    canvas: Canvas
    instance_number: int
    directions: tuple[str, str]
    structures: dict[str, Color]

    def save(self, path: Path) -> None:
        """Keep the picture."""
        Image.fromarray(self.picture).save(path)


@dataclass
class Viewer:
    """One page of a browser.

    Attributes:
        page: The page.
        address: Where OHIF is served.
        complaints: Errors that the page or the network reported since they were last taken.
    """

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    _greeted: bool = False

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("requestfailed", lambda request: self._note(f"{request.url}: {request.failure}"))
        self.page.on("request", lambda request: self._require_own(request.url))
        self.page.on(
            "response",
            lambda answer: self._note(f"{answer.url}: {answer.status}") if answer.status >= 400 else None,
        )

    def take_complaints(self) -> list[str]:
        """What was reported since the last call."""
        taken, self.complaints[:] = self.complaints[:], []
        return taken

    def show(self, study_uid: str, series_uid: str, result_uid: str, instance_number: int) -> View:
        """Open a series with one of its results and scroll to a slice."""
        self.page.goto(
            f"{self.address}/viewer?StudyInstanceUIDs={study_uid}&SeriesInstanceUIDs={series_uid},{result_uid}",
            wait_until="domcontentloaded",
        )
        result = self.page.get_by_test_id("study-browser-thumbnail-no-image")
        result.wait_for()
        if not self._greeted:
            self.page.get_by_text("Skip all").click()
            self.page.get_by_test_id("confirm-and-hide-button").click()
            self._greeted = True
        self.page.locator(".orientation-marker-value").first.wait_for()  # the image is there and knows its directions
        result.dblclick()
        self.page.get_by_test_id("data-row-title").first.wait_for()
        self._scroll_to(instance_number)
        structures, canvas = self._structures(), self._canvas()
        picture = self._settled_picture(canvas, [color for color in structures.values() if any(color)])
        top, left = self.page.locator(".orientation-marker-value").all_inner_texts()[:2]
        return View(picture, canvas, self._shown_slice(), (top, left), structures)

    def _note(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def _require_own(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self._note(f"asks another host: {url}")

    def _scroll_to(self, instance_number: int) -> None:
        """Turn the wheel until the slice is shown; slices may be numbered in either direction."""
        canvas = self._canvas()
        self.page.mouse.move(canvas.left + canvas.width / 2, canvas.top + canvas.height / 2)
        shown, turn = self._shown_slice(), 100
        while shown != instance_number:
            self.page.mouse.wheel(0, turn)
            now = self._next_slice(shown)
            if abs(now - instance_number) > abs(shown - instance_number):
                turn = -turn
            shown = now

    def _next_slice(self, before: int) -> int:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            if (now := self._shown_slice()) != before:
                return now
            self.page.wait_for_timeout(20)
        raise TimeoutError(f"the viewer stays on slice {before} when the wheel is turned")

    def _shown_slice(self) -> int:
        """InstanceNumber of the shown slice, from the text in the corner."""
        text = self.page.get_by_test_id("viewport-overlay-bottom-right").inner_text()
        found = _SLICE.search(text.replace("\n", " "))
        if found is None:
            raise AssertionError(f"the viewer does not say which slice it shows, but {text!r}")
        return int(found[1])

    def _canvas(self) -> Canvas:
        box = self.page.locator("canvas.cornerstone-canvas").bounding_box()
        assert box is not None
        return Canvas(box["x"], box["y"], box["width"], box["height"])

    def _structures(self) -> dict[str, Color]:
        rows = self.page.get_by_test_id("data-row").all()
        return {row.get_by_test_id("data-row-title").inner_text(): _color_of(row) for row in rows}

    def _settled_picture(self, canvas: Canvas, colors: Sequence[Color]) -> Picture:
        """The page once it no longer changes and every colour is on the canvas; after a time, as it is."""
        deadline = time.monotonic() + _SECONDS
        picture = self._picture()
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(300)
            before, picture = picture, self._picture()
            shown = picture[canvas.window]
            if np.array_equal(before, picture) and all(solid_region(shown, color).any() for color in colors):
                break
        return picture

    def _picture(self) -> Picture:
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))


@contextmanager
def viewer(browser: Browser, address: str, width: int = 1000, height: int = 620) -> Iterator[Viewer]:
    """An empty page.

    Args:
        browser: Where it is opened.
        address: Where OHIF is served.
        width: Of the page, in pixels.
        height: Of the page, in pixels.
    """
    page = browser.new_page(viewport={"width": width, "height": height})
    try:
        page.set_default_timeout(_SECONDS * 1000)
        yield Viewer(page, address)
    finally:
        page.close()


def _color_of(row: Locator) -> Color:
    style = row.get_by_test_id("data-row-colorhex").get_attribute("style") or ""
    red, green, blue = (int(number) for number in re.findall(r"\d+", style)[:3])
    return red, green, blue
