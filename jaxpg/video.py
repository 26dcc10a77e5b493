"""Writing H.264 videos with the ffmpeg that imageio-ffmpeg brings along.

The program is started here and not through imageio-ffmpeg's own functions, which fork; a process that runs JAX
must not.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np

from jaxpg.errors import UserError

FRAMES_PER_SECOND = 60


class VideoWriter:
    """Takes frames of one size, ``uint8[H, W, 3]``, at 60 a second."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(frame).data)
        self.frames += 1


def unfinished_path(path: Path) -> Path:
    """Where a video is kept while it is written."""
    return path.with_name(f".{path.stem}.unfinished.mp4")


@contextmanager
def write_video(path: Path, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Opens a video of ``size`` (width and height, both even); it is at ``path`` when it is whole, and not before.

    Raises:
      UserError: the file cannot be written or the frames cannot be encoded.
    """
    unfinished = unfinished_path(path)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.touch()  # a folder that cannot be written is found before the game is played
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        with _encoder(path, unfinished, size) as video:
            yield video
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def _encoder(path: Path, unfinished: Path, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Lets ffmpeg write ``unfinished``, which goes to ``path`` when it is whole."""
    with tempfile.TemporaryFile() as said:
        ffmpeg = subprocess.Popen(_command(unfinished, size), stdin=subprocess.PIPE, stdout=said, stderr=said)
        assert ffmpeg.stdin is not None
        try:
            yield VideoWriter(ffmpeg.stdin)
            ffmpeg.stdin.close()
            if ffmpeg.wait() != 0:
                raise BrokenPipeError
            os.replace(unfinished, path)
        except OSError as error:
            ffmpeg.wait()
            said.seek(0)
            reason = said.read().decode(errors="replace").strip().splitlines()
            raise UserError(
                f"{path}: the video cannot be encoded: {reason[-1] if reason else error.strerror}"
            ) from error
        finally:
            with suppress(OSError):  # what is still in the buffer has nowhere to go
                ffmpeg.stdin.close()
            ffmpeg.kill()
            ffmpeg.wait()


def _command(path: Path, size: tuple[int, int]) -> list[str]:
    width, height = size
    return [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_PER_SECOND), "-i", "-"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"),
        str(path.absolute()),
    ]
