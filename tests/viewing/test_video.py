"""Writing a video: ffmpeg ends with it, however it ends, and nobody else writes it meanwhile."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxpg.core.errors import UserError
from jaxpg.viewing import video as video_module
from jaxpg.viewing.video import video_place, write_video

SIZE = (64, 48)


def _film(path: Path, frames: int = 3, then: Callable[[], None] = lambda: None) -> None:
    with video_place(path), write_video(path, SIZE) as video:
        for _ in range(frames):
            video.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        then()


def _fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
def test_what_fails_between_frames_ends_ffmpeg_at_once(tmp_path: Path, error: type[BaseException]) -> None:
    """A thread, because it was waited for ffmpeg, which waited for frames."""
    caught: list[BaseException] = []

    def fail() -> None:
        raise error

    def film() -> None:
        try:
            _film(tmp_path / "game.mp4", then=fail)
        except BaseException as raised:
            caught.append(raised)

    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    thread.join(60)
    assert [type(one) for one in caught] == [error]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("head -c 9 >/dev/null; echo No space left on device >&2; exit 228", "No space left on device"),
        ("cat >/dev/null; echo No space left on device >&2; exit 228", "No space left on device"),
        ("cat >/dev/null; exit 3", "ffmpeg ended with 3"),
        ("exec <&-; sleep 60", "Broken pipe"),
    ],
)
def test_an_ffmpeg_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    _fake_ffmpeg(tmp_path, monkeypatch, script)
    monkeypatch.setattr(video_module, "SECONDS_FOR_LAST_WORDS", 1.0 if "echo" in script else 0.0)
    with pytest.raises(UserError, match=f"game.mp4: the video cannot be encoded: {reason}"):
        _film(tmp_path / "game.mp4", frames=30)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_without_ffmpeg_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"game.mp4: the video cannot be encoded: ffmpeg cannot be started"):
        _film(tmp_path / "game.mp4")


def test_a_place_is_tried_and_held_before_the_games(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "game.mp4"
    with video_place(path):
        with pytest.raises(UserError, match=r"game.mp4: another process is writing this video"), video_place(path):
            raise AssertionError
        with video_place(path.with_name("other.mp4")):
            pass
    _film(path)
    assert [one.name for one in path.parent.iterdir()] == ["game.mp4"]
    for wrong, why in ((tmp_path / "videos", "a folder has this name"), (path / "game.mp4", "")):
        with pytest.raises(UserError, match=f"cannot be written: {why}"), video_place(wrong):
            raise AssertionError
