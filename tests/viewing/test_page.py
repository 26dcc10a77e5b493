"""The page of ``python -m jaxpg.report``, as a file and with ``--serve``, in a real browser: Debian's Chromium, without
a screen.
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.report_runs import filmed, made_run

pytestmark = pytest.mark.browser

FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
]


@pytest.fixture(scope="module")
def walked(tmp_path_factory) -> Path:
    """A folder in which every command of docs/get-started.md was run, as it stands there."""
    from tests.docs.blocks import blocks_of

    folder = tmp_path_factory.mktemp("walk")
    blocks = [block for block in blocks_of("docs/get-started.md") if block.language == "shell" and not block.reason]
    commands = [command for block in blocks for command in block.commands]
    assert [line.split()[2] for line in commands] == [
        *("jaxpg.train", "jaxpg.train", "jaxpg.evaluate", "jaxpg.record", "jaxpg.report")
    ]
    for command in commands:
        words = shlex.split(re.sub(r"^python ", "", command))
        subprocess.run([sys.executable, *words], cwd=folder, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def page(walked: Path) -> Path:
    return walked / "runs" / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    """A browser of its own, which notes what it logs and what it asks the network for."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "Debian's packages chromium and chromium-driver are needed, as .ci/browser installs them"
    assert driver, "Debian's package chromium-driver is needed, as .ci/browser installs it"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(params=[390, 1280], ids=["phone", "desktop"])
def opened(request: pytest.FixtureRequest, chromium: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    width = request.param
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(page.as_uri())
    return chromium


def _js(browser: webdriver.Chrome, code: str, *arguments):
    return browser.execute_script(code, *arguments)


def test_curves_are_drawn_and_nothing_sticks_out(opened: webdriver.Chrome) -> None:
    width = _js(opened, "return innerWidth")
    assert _js(opened, "return document.documentElement.scrollWidth") == width, "no scrolling sideways"
    _js(opened, "document.querySelectorAll('details').forEach(d => d.open = true)")
    drawings = opened.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(drawings) > 10
    for drawing in drawings:
        box = drawing.rect
        assert box["width"] > min(300, width * 0.8), "large enough to read"
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        # The height of the lines, not of their boxes on the screen: the label of the y axis stands upright.
        text = (
            "const scale = arguments[0].getBoundingClientRect().width / arguments[0].viewBox.baseVal.width;"
            "return Math.min(...[...arguments[0].querySelectorAll('text')].map(t => t.getBBox().height)) * scale"
        )
        assert _js(opened, text, drawing) >= 9, "letters of a readable size"
    length = "return document.querySelector('#return_steps path[style*=\"--s0\"]').getTotalLength()"
    assert _js(opened, length) > 50
    ink = "return getComputedStyle(document.querySelector('#return_steps path[style*=\"--s0\"]')).stroke"
    assert _js(opened, ink) == "rgb(37, 99, 201)"


def test_every_video_plays(opened: webdriver.Chrome, walked: Path) -> None:
    videos = opened.find_elements(By.TAG_NAME, "video")
    files = sorted((walked / "runs" / "first" / "videos").glob("*.mp4"))
    assert [file.name for file in files] == ["20.mp4"]
    assert len(videos) == len(files)
    for video, file in zip(videos, files, strict=True):
        WebDriverWait(opened, 20).until(lambda browser, v=video: _js(browser, "return arguments[0].readyState", v) >= 1)
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(file)
        assert frames == pytest.approx(60 * seconds, abs=1)
        assert seconds > 10
        assert _js(opened, "return arguments[0].duration", video) == pytest.approx(seconds, abs=0.05)
        assert _js(opened, "return arguments[0].videoWidth", video) >= 960
        _js(opened, "arguments[0].play()", video)
        WebDriverWait(opened, 20).until(
            lambda browser, v=video: _js(browser, "return arguments[0].currentTime", v) > 0.1
        )
        _js(opened, "arguments[0].pause()", video)


def test_pointing_at_a_curve_says_its_value(opened: webdriver.Chrome) -> None:
    drawing = opened.find_element(By.CSS_SELECTOR, "#return_steps .drawing")
    tip = drawing.find_element(By.CSS_SELECTOR, ".tip")
    assert not tip.is_displayed()
    _js(opened, "arguments[0].scrollIntoView({block: 'center'})", drawing)
    ActionChains(opened).move_to_element(drawing).perform()
    WebDriverWait(opened, 10).until(lambda _: tip.is_displayed())
    assert " at " in tip.text
    assert tip.text.endswith("thousand agent steps")
    box = tip.rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= _js(opened, "return innerWidth")
    before = tip.text
    _js(opened, "arguments[0].focus()", drawing)
    ActionChains(opened).send_keys(Keys.ARROW_RIGHT).perform()
    WebDriverWait(opened, 10).until(lambda _: tip.text != before)


def test_it_is_dark_where_the_reader_likes_it_dark(opened: webdriver.Chrome) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    colors = {}
    for scheme in ("dark", "light"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        colors[scheme] = _js(opened, paper)
    assert colors == {"dark": "rgb(20, 22, 26)", "light": "rgb(255, 255, 255)"}


def test_no_error_and_no_request(opened: webdriver.Chrome, page: Path) -> None:
    assert opened.get_log("browser") == []
    sent = [
        entry["message"] for entry in opened.get_log("performance") if 'Network.requestWillBeSent"' in entry["message"]
    ]
    asked = {part.split('"url":"')[1].split('"')[0][:30] for part in sent}
    assert asked <= {page.as_uri()[:30], *(url for url in asked if url.startswith("data:"))}
    assert any(url.startswith("file:") for url in asked), "the page itself is on the list"


def _points(browser: webdriver.Chrome) -> int:
    """How many values of the learning curve can be pointed at."""
    return _js(browser, "return JSON.parse(document.querySelector('#return_steps script').textContent).length")


def test_a_served_page_grows_with_the_run_and_leaves_alone_what_has_not_changed(
    chromium: webdriver.Chrome, tmp_path: Path
) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0])
    filmed(folder)
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    command = [sys.executable, "-m", "jaxpg.report", str(folder), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().split()[1]
        chromium.get_log("browser")
        chromium.get_log("performance")
        chromium.get(url)
        _js(chromium, "document.querySelector('#live').scrollIntoView()")
        _js(chromium, "document.querySelectorAll('details').forEach(d => d.open = true)")
        video = chromium.find_element(By.TAG_NAME, "video")
        _js(chromium, "arguments[0].loop = true; arguments[0].play()", video)
        _js(chromium, "window.unchanged = true")
        for number in range(4, 7):
            points = _points(chromium)
            line |= {"iteration": number, "agent_steps": 1000 * number, "return_mean_100": float(number)}
            line |= {"wall_seconds": float(number)}
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            WebDriverWait(chromium, 60).until(lambda browser, before=points: _points(browser) > before)
        drawing = chromium.find_element(By.CSS_SELECTOR, "#return_steps .drawing")
        _js(chromium, "arguments[0].scrollIntoView({block: 'center'})", drawing)
        ActionChains(chromium).move_to_element(drawing).perform()
        tip = drawing.find_element(By.CSS_SELECTOR, ".tip")
        WebDriverWait(chromium, 10).until(lambda _: tip.is_displayed())
        assert _js(chromium, "return window.unchanged"), "the page was not loaded again"
        left = "return document.querySelector(arguments[0]).getBoundingClientRect().left"
        assert _js(chromium, left, "#live") == _js(chromium, left, "main"), "in line with the rest"
        assert _js(chromium, "return arguments[0].isConnected && !arguments[0].paused", video), "the video plays on"
        assert all(_js(chromium, "return [...document.querySelectorAll('details')].map(d => d.open)"))
        assert "6,000" in chromium.find_element(By.CSS_SELECTOR, "main table").text
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
    news = chromium.find_element(By.ID, "live")
    WebDriverWait(chromium, 30).until(lambda _: "does not answer" in news.text)
    sent = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert {address for address in asked if not address.startswith("data:")} == {url}
    errors = [entry["message"] for entry in chromium.get_log("browser")]
    assert all("ERR_CONNECTION_REFUSED" in message for message in errors), errors
