"""What the tests of sharing have in common: a hub on this machine, and an evaluated run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxpg
from jaxpg.share.packing import pack
from tests.share.hub_stand_in import Hub, hub_on_this_machine


@pytest.fixture(scope="session")
def evaluated(uninterrupted: Path, tmp_path_factory) -> Path:
    """A run with an evaluation of its newest checkpoint, and a file in the place of a video."""
    folder = Path(shutil.copytree(uninterrupted, tmp_path_factory.mktemp("evaluated") / "run"))
    jaxpg.evaluate(folder, episodes=6, seed=3)
    (folder / "videos").mkdir()
    (folder / "videos" / "20.mp4").write_bytes(b"\0video" * 100)
    (folder / "videos" / "20.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def pushed_files(evaluated: Path) -> dict[str, bytes]:
    """What a push of the evaluated run puts into a repository, which a test in test_hub.py compares with a push."""
    package = pack(evaluated, "pole", how_to_get="python -m jaxpg.pull me/pole --out runs/pole")
    return {name: package.content(name) for name in package.files}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Iterator[Hub]:
    """A hub that knows the user's token. The user's own settings, cache and token are out of reach."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with hub_on_this_machine() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture
def pushed(hub: Hub, pushed_files: dict[str, bytes]) -> Hub:
    """A hub with the repository of the evaluated run."""
    hub.make("me/pole", pushed_files)
    return hub
