"""The site in a real browser: no page scrolls sideways, nothing is loaded from elsewhere, and the search finds."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.docs.blocks import ROOT
from tests.viewing.test_page import chromium  # noqa: F401  # the fixture

pytestmark = pytest.mark.browser


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI builds it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where a server on this machine has the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nothing_to_search(folder: Path, chromium: webdriver.Chrome) -> Iterator[None]:  # noqa: F811
    """An empty index, because every page that is opened prepares the whole one, which takes longest."""
    path = folder / "search" / "search_index.json"
    index = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(index) | {"docs": []}), encoding="utf-8")
    yield
    path.write_text(index, encoding="utf-8")
    chromium.execute_cdp_cmd("Network.clearBrowserCache", {})  # otherwise the browser may keep the empty one


def _emulate(browser: webdriver.Chrome, width: int, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def test_every_page_fits_and_asks_nobody_else(
    chromium: webdriver.Chrome,  # noqa: F811
    folder: Path,
    address: str,
    nothing_to_search: None,
) -> None:
    """Each page is opened on a phone in the dark, and then shown on a desktop, too."""
    _emulate(chromium, 390, "dark")
    chromium.get(address)
    chromium.execute_script("localStorage.clear()")  # where the site keeps the scheme that was seen before
    chromium.get_log("browser")
    chromium.get_log("performance")
    pages = sorted(path.relative_to(folder).parent.as_posix() for path in folder.rglob("index.html"))
    assert len(pages) > 40
    too_wide = []
    for page in pages:
        chromium.get(f"{address}/{page}/")
        assert chromium.execute_script("return document.body.dataset.mdColorScheme") == "slate"
        shown = chromium.execute_script(
            "return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
        )
        assert shown == [], f"{page}: pictures that are not there"
        for width in (1280, 390):
            _emulate(chromium, width, "dark")
            if chromium.execute_script("return document.documentElement.scrollWidth") != width:
                too_wide.append((page, width))
            broken = chromium.execute_script(
                "return [...document.querySelectorAll('code .flag')]"
                ".filter(f => !f.closest('td') && f.getClientRects().length > 1).map(f => f.innerText)"
            )
            assert broken == [], f"{page}: flags that go on in the next line"
    assert too_wide == []
    sent = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert len(urls) > len(pages)
    assert [url for url in urls if not url.startswith((address, "data:"))] == []
    assert [entry["message"] for entry in chromium.get_log("browser") if "favicon" not in entry["message"]] == []


def test_it_is_light_where_the_reader_likes_it_light(chromium: webdriver.Chrome, address: str) -> None:  # noqa: F811
    _emulate(chromium, 1280)
    chromium.get(address)
    chromium.execute_script("localStorage.clear()")
    chromium.get(f"{address}/get-started/")
    assert chromium.execute_script("return document.body.dataset.mdColorScheme") == "default"


def test_docstrings_are_read_as_they_are_meant(folder: Path) -> None:
    """A parser that takes a second line for a second result leaves backticks, and prints a default's Python."""
    pages = [path.read_text(encoding="utf-8") for path in folder.glob("reference/**/index.html")]
    assert len(pages) == 4
    for page in pages:
        (article,) = re.findall(r"<article.*?</article>", page, re.DOTALL)
        words = re.sub(r"<[^>]+>", "", re.sub(r"<pre.*?</pre>", "", article, flags=re.DOTALL))
        assert re.findall(r".{0,40}(?:``|default_factory).{0,40}", words) == []
        for results in re.findall(r"Returns:</span>.*?</ul>", article, re.DOTALL):
            assert results.count("<li") == 1, results


def test_no_date_and_no_flag_of_a_table_is_broken_after_a_hyphen(folder: Path) -> None:
    page = (folder / "lab" / "peers" / "index.html").read_text(encoding="utf-8")
    assert re.search(r'id="beside-other-trainers[\w-]*">Beside other trainers \(<span class="whole">2026-', page)
    assert '<span class="flag">--policy.</span><wbr><span class="flag">precision</span> bfloat16' in page


def test_the_search_finds(chromium: webdriver.Chrome, address: str) -> None:  # noqa: F811
    _emulate(chromium, 1280)
    chromium.get(f"{address}/?q=cut_at_reward")
    found = WebDriverWait(chromium, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
    assert any("concepts/credit" in link.get_attribute("href") for link in found)
