"""A browser without a screen: one for all tests of a process, since Playwright runs once in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests import installed

WITHOUT_A_SCREEN = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-gpu-rasterization",
)
"""WebGL without a graphics card, and for nothing but the images; a browser that root starts has no sandbox."""
OHIF_TEST_ID = "data-cy"
"""OHIF's attribute for tests to find things by; a setting of Playwright as a whole."""


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Debian's Chromium, closed at the end."""
    program = installed.chromium()
    with sync_playwright() as playwright:
        playwright.selectors.set_test_id_attribute(OHIF_TEST_ID)
        browser = playwright.chromium.launch(executable_path=program, args=list(WITHOUT_A_SCREEN))
        try:
            yield browser
        finally:
            browser.close()
