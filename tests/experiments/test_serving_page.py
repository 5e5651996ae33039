"""The page in a real browser: what is typed is continued, and every end of a text is shown."""

from __future__ import annotations

import asyncio
import shutil
import threading

import pytest

from tests.support.served import ALPHABET, make_engine, serving

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]
PROMPT = "the cat\nsat"
PAIRS = [  # of colors: text and background
    ("ink", "page"),
    ("ink", "paper"),
    ("faint", "page"),
    ("faint", "paper"),
    ("on-accent", "accent"),
    ("error", "error-page"),
]


class Server:
    """A server in a thread of its own, with the event loop in which its engine may be used."""

    def __init__(self, port=0):
        self.engine, self._port = make_engine(), port
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),), daemon=True)

    async def _serve(self):
        async with serving(self.engine, port=self._port, longest_text=1_000_000) as (self.url, _):
            self._ready.set()
            await self._over.wait()

    def call(self, function, *arguments):
        self.loop.call_soon_threadsafe(function, *arguments)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self.call(self.engine.stop, True)
        self.call(self._over.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail("the page is tested in a browser: install it, with apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.set_page_load_timeout(30)
    yield opened
    opened.quit()


class Page:
    """The page, as its reader sees it."""

    def __init__(self, browser, server):
        self._browser = browser
        browser.get(server.url)
        self.until(lambda: self.shown("model") == "a model")

    def find(self, name):
        return self._browser.find_element("id", name)

    def shown(self, name):
        return self._browser.execute_script("return document.getElementById(arguments[0]).textContent", name)

    def begin_long_text(self):
        """Generates a text that does not end by itself, and waits for its first characters."""
        self.type(PROMPT)
        self._browser.execute_script("document.getElementById('length').max = 1000000")
        self.set("length", 1_000_000)
        self.click("generate")
        self.until(lambda: len(self.text) > len(PROMPT) + 5)

    def click(self, name):
        self.find(name).click()

    def type(self, prompt):
        self.find("prompt").clear()
        self.find("prompt").send_keys(prompt)

    def set(self, name, value):
        """Moves a slider."""
        script = "const [id, value] = arguments, slider = document.getElementById(id); slider.value = value;"
        script += "slider.dispatchEvent(new Event('input'))"
        self._browser.execute_script(script, name, value)

    @property
    def text(self):
        return self.shown("text")

    @property
    def enabled(self):
        """The buttons that can be pressed."""
        return {name for name in ("generate", "continue", "stop") if self.find(name).is_enabled()}

    @property
    def error(self):
        return self.find("error").text

    def until(self, holds):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self._browser, 20, 0.02).until(lambda _: holds())

    def complaints(self):
        """What the browser has logged, for example against the content security policy."""
        return [entry["message"] for entry in self._browser.get_log("browser")]


def test_what_is_typed_is_continued(browser):
    with Server() as server:
        page = Page(browser, server)
        assert page.enabled == {"generate"}
        page.type(PROMPT)
        page.set("length", 60)
        page.set("temperature", 0.5)
        assert (page.shown("length-value"), page.shown("temperature-value")) == ("60", "0.50")
        page.click("generate")
        page.until(lambda: page.enabled == {"generate", "continue"})
        first = page.text
        assert first.startswith(PROMPT)
        assert len(first) == len(PROMPT) + 60
        assert set(first) <= set(ALPHABET)
        assert page.find("text").find_element("class name", "given").text == PROMPT
        assert page.shown("status").startswith("60 characters in ")
        page.click("continue")
        page.until(lambda: len(page.text) == len(first) + 60)
        assert page.text.startswith(first)
        page.type("")
        page.click("generate")  # the beginning of a line
        page.until(lambda: len(page.text) == 60)
        assert not page.error
        assert page.complaints() == []


def test_characters_appear_one_after_the_other_until_stop_is_pressed(browser):
    with Server() as server:
        page = Page(browser, server)
        page.begin_long_text()
        lengths = set()
        page.until(lambda: lengths.add(len(page.text)) or len(lengths) > 5)
        assert page.enabled == {"stop"}
        assert server.engine.taken == 1
        page.click("stop")
        page.until(lambda: "stop" not in page.enabled)
        page.until(lambda: server.engine.taken == 0)  # the slot is free
        assert page.shown("status").startswith("Stopped. ")
        assert not page.error


def test_errors_are_shown(browser):
    with Server() as server:
        page = Page(browser, server)
        page.type("the é")
        page.click("generate")
        page.until(lambda: page.error == "The prompt has characters that the training text lacks: 'é'.")
        assert page.enabled == {"generate"}
        page.type(PROMPT)
        page.set("length", 10)
        page.click("generate")
        page.until(lambda: page.enabled == {"generate", "continue"})
        assert not page.error
        assert len(page.text) == len(PROMPT) + 10
        server.engine.per_client = 0
        page.click("continue")
        page.until(lambda: page.error.startswith("You have 0 texts in progress"))
        server.engine.per_client = None
        page.click("continue")  # again
        page.until(lambda: len(page.text) == len(PROMPT) + 20)
        assert not page.error


def test_a_server_that_stops_ends_the_text_which_another_one_continues(browser):
    with Server() as server:
        page = Page(browser, server)
        page.begin_long_text()
        server.call(server.engine.stop, True)
        page.until(lambda: "continue" in page.enabled)
        assert page.shown("status").startswith("The server is stopping. Press Continue ")
        assert not page.error
    page.click("continue")
    page.until(lambda: page.error == "The connection to the server was lost.")
    before = page.text
    with Server(port=int(server.url.rstrip("/").rpartition(":")[2])):
        page.set("length", 10)
        page.click("continue")
        page.until(lambda: page.enabled == {"generate", "continue"})
        assert page.text.startswith(before)
        assert len(page.text) == len(before) + 10
        assert not page.error


def test_a_server_that_is_killed_ends_the_text(browser):
    with Server() as server:
        page = Page(browser, server)
        page.begin_long_text()

        def cut():
            for task in asyncio.all_tasks(server.loop):
                if "RequestHandler.start" in repr(task):
                    task.cancel()

        server.call(cut)
        page.until(lambda: page.error == "The connection to the server was lost.")
        assert "generate" in page.enabled


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (1200, 900)])
def test_the_page_fits_the_screen(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    with Server() as server:
        page = Page(browser, server)
        page.type("the cat " * 40)
        page.click("generate")
        page.until(lambda: "continue" in page.enabled)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        for name in ("generate", "continue", "stop"):
            assert page.find(name).rect["height"] >= 44  # large enough for a finger
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_color_schemes(browser, scheme):
    """At least 4.5, the minimum of the Web Content Accessibility Guidelines."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    script = """
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement("canvas").getContext("2d");
      return arguments[0].map(name => {
        probe.fillStyle = style.getPropertyValue("--" + name).trim();
        probe.fillRect(0, 0, 1, 1);
        return Array.from(probe.getImageData(0, 0, 1, 1).data.slice(0, 3));
      });"""

    def luminance(color):
        parts = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    with Server() as server:
        Page(browser, server)
        for pair in PAIRS:
            text, background = map(luminance, browser.execute_script(script, pair))
            low, high = sorted((text, background))
            assert (high + 0.05) / (low + 0.05) >= 4.5, pair
            assert "accent" in pair or (background < text) == (scheme == "dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
