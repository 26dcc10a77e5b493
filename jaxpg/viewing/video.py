"""Writing H.264 videos with the ffmpeg that imageio-ffmpeg brings along.

The program is started here and not through imageio-ffmpeg's own functions, which fork; a process that runs JAX
must not.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
from filelock import FileLock, Timeout

from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import unfinished_path

FRAMES_PER_SECOND = 60
SECONDS_FOR_LAST_WORDS = 5.0


class VideoWriter:
    """Takes frames of one size, ``uint8[H, W, 3]``, at 60 a second, and gives them to ffmpeg.

    Args:
      path: of the video, for sentences.
      ffmpeg: the process, which reads frames from its stdin until that is closed.
      said: where it writes its words.
    """

    def __init__(self, path: Path, ffmpeg: subprocess.Popen[bytes], said: IO[bytes]):
        assert ffmpeg.stdin is not None
        self._path, self._ffmpeg, self._stream, self._said = path, ffmpeg, ffmpeg.stdin, said
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame; UserError where ffmpeg has ended."""
        try:
            self._stream.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._refusal(error.strerror) from error
        self.frames += 1

    def finish(self) -> None:
        """Returns when ffmpeg has written all frames; UserError where it could not."""
        try:
            self._stream.close()
        except OSError as error:
            raise self._refusal(error.strerror) from error
        if self._ffmpeg.wait() != 0:
            raise self._refusal(f"ffmpeg ended with {self._ffmpeg.returncode}")

    def end(self) -> None:
        """Ends ffmpeg, whatever it does; a second time is harmless."""
        with suppress(OSError):  # what is still in the buffer has nowhere to go
            self._stream.close()
        self._ffmpeg.kill()
        self._ffmpeg.wait()

    def _refusal(self, reason: str | None) -> UserError:
        """The sentence about ffmpeg's own end, for whose last words it gets a moment."""
        with suppress(OSError):
            self._stream.close()  # ffmpeg would wait for more frames, and we for ffmpeg
        with suppress(subprocess.TimeoutExpired):
            self._ffmpeg.wait(SECONDS_FOR_LAST_WORDS)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return UserError(f"{self._path}: the video cannot be encoded: {lines[-1] if lines else reason}")


@contextmanager
def video_place(path: Path) -> Iterator[None]:
    """Holds the place of a video, which is tried before a game is played: no other process writes it meanwhile.

    Raises:
      UserError: the video cannot be written there, or another process writes it just now.
    """
    unfinished = unfinished_path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has this name")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(unfinished, blocking=False)  # the file itself, so that nothing else is left
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{path}: another process writes this video just now; wait for it, or choose another name with --out"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        lock.release()


@contextmanager
def write_video(path: Path, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Opens a video of ``size`` (width and height, both even); it is at ``path`` when it is whole, and not before.

    Its place is held (``video_place``). ffmpeg has ended when this does, however it does.

    Raises:
      UserError: ffmpeg is missing, or it could not encode the frames or write the file.
    """
    unfinished = unfinished_path(path)
    with open(os.memfd_create("ffmpeg"), "w+b") as said:
        try:
            ffmpeg = subprocess.Popen(_command(unfinished, size), stdin=subprocess.PIPE, stdout=said, stderr=said)
        except (OSError, RuntimeError) as error:  # imageio-ffmpeg raises the latter
            raise UserError(f"{path}: the video cannot be encoded: ffmpeg cannot be started: {error}") from error
        video = VideoWriter(path, ffmpeg, said)
        try:
            yield video
            video.finish()
        finally:
            video.end()
    try:
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _command(path: Path, size: tuple[int, int]) -> list[str]:
    width, height = size
    return [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_PER_SECOND), "-i", "-"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"),
        str(path.absolute()),
    ]
