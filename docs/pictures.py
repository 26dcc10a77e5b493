"""Draws pictures of the documentation.

python docs/pictures.py architecture               docs/img/architecture.svg
python docs/pictures.py game RUN VIDEO [SECOND]    docs/img/learning-beside-game.png, learning.png and frame.png
python docs/pictures.py page REPORT                docs/img/report-desktop.png and report-phone.png

RUN is a run folder, VIDEO a file of ``jaxpg record RUN``, and REPORT one of ``jaxpg report RUN`` (``page`` needs
chromium and chromedriver). The other pictures are charts of ``jaxpg report --png``.
"""

import sys
import tempfile
from html import escape
from pathlib import Path

IMG = Path(__file__).parent / "img"
INK, PALE, LINE = "#1d2024", "#666b73", "#2563c9"
BOXES = [  # left, top, lines
    (20, 120, ["Environments", "EnvPool, ALE, Gymnasium,", "or JAX; N lanes in pools"]),
    (345, 120, ["Kernel: act", "encode, decode, policy, noise", "for P members of E lanes"]),
    (670, 120, ["Learner", "REINFORCE, evolution,", "random search, or yours"]),
    (345, 256, ["Tape, on the device", "observations, actions,", "logits, values of T rows"]),
    (670, 256, ["Run folder", "checkpoints, metrics,", "episodes, videos"]),
]
BOX_WIDTH, BOX_HEIGHT = 225, 82
ARROWS = [  # path, words, x and y of the words, anchor
    ("M245 142 H345", "observations", 295, 134, "middle"),
    ("M345 178 H245", "actions", 295, 196, "middle"),
    ("M670 142 H570", "population", 620, 134, "middle"),
    ("M457 202 V256", "a row each agent step", 449, 234, "end"),
    ("M570 290 L670 198", "T rows", 604, 240, "end"),
    ("M782 202 V256", "state, every minute", 774, 234, "end"),
    ("M132 120 V92 H782 V120", "rewards, ends, finished episodes", 457, 84, "middle"),
]


def architecture() -> str:
    """The architecture as one drawing, SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 915 358" font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" markerWidth="8" markerHeight="7" refX="7" refY="3.5" orient="auto">'
        f'<path d="M0 0 L8 3.5 L0 7 z" fill="{LINE}"/></marker></defs>',
        '<rect width="915" height="358" fill="white"/>',
        f'<g font-size="17" fill="{INK}"><text x="20" y="30">Environments run in parallel, one function acts for a '
        'whole population,</text><text x="20" y="54">and a learner turns what happened into the next population.'
        "</text></g>",
    ]
    for left, top, (title, *lines) in BOXES:
        parts.append(
            f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="#eef3fc" '
            f'stroke="{LINE}"/>'
            f'<text x="{left + 12}" y="{top + 25}" font-weight="bold" fill="{INK}">{escape(title)}</text>'
        )
        parts += [
            f'<text x="{left + 12}" y="{top + 47 + 20 * i}" font-size="13" fill="{PALE}">{escape(line)}</text>'
            for i, line in enumerate(lines)
        ]
    for path, words, x, y, anchor in ARROWS:
        parts.append(
            f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="2" marker-end="url(#tip)"/>'
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" fill="{PALE}">{words}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def game(run: str, video: str, second: float) -> None:
    """The learning curve of a run beside a frame of its video, and each of the two alone, for phones."""
    import imageio_ffmpeg
    from PIL import Image

    from jaxpg.viewing.charts import draw_png
    from jaxpg.viewing.run_log import read_run
    from jaxpg.viewing.views import learning_charts, number_runs

    frames = imageio_ffmpeg.read_frames(video, input_params=["-ss", str(second)])
    size = next(frames)["size"]
    frame = Image.frombytes("RGB", size, next(frames))
    frames.close()
    frame.save(IMG / "frame.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        chart = draw_png(learning_charts(number_runs([read_run(run)]))[0], Path(folder))
        curve = Image.open(chart).convert("RGB")
    height = 420
    curve = curve.resize((round(curve.width * height / curve.height), height), Image.Resampling.LANCZOS)
    curve.quantize(128).save(IMG / "learning.png", optimize=True)
    frame = frame.resize((round(frame.width * height / frame.height), height), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (curve.width + 16 + frame.width, height), "white")
    both.paste(curve, (0, 0))
    both.paste(frame, (curve.width + 16, 0))
    both.quantize(128).save(IMG / "learning-beside-game.png", optimize=True)


def page(report: str) -> None:
    """The upper part of a report, as a wide screen and as a phone show it, down to the end of a chart."""
    import io
    import shutil
    from base64 import b64decode

    from PIL import Image
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    options.binary_location = str(shutil.which("chromium"))
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        for name, width, height in (("desktop", 1200, 1194), ("phone", 390, 1872)):
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            browser.get(Path(report).absolute().as_uri())
            shown = Image.open(io.BytesIO(b64decode(browser.get_screenshot_as_base64()))).convert("RGB")
            shown.quantize(128).save(IMG / f"report-{name}.png", optimize=True)
    finally:
        browser.quit()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["architecture"]:
            (IMG / "architecture.svg").write_text(architecture(), encoding="utf-8")
        case ["game", run, video, *rest]:
            game(run, video, float(rest[0]) if rest else 60.0)
        case ["page", report]:
            page(report)
        case _:
            sys.exit(__doc__)
