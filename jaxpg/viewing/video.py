"""Writes H.264 videos with the ffmpeg program that imageio-ffmpeg ships.

This file starts ffmpeg itself, because imageio-ffmpeg's own functions fork, and a process that runs JAX must not fork.
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
from jaxpg.machine.durable_files import try_to_write, unfinished_path

FRAMES_PER_SECOND = 60
SECONDS_FOR_LAST_WORDS = 5.0


class VideoWriter:
    """Sends frames of one size, ``uint8[H, W, 3]``, to ffmpeg; 60 of them are a second of video.

    Args:
      path: path of the video, which error sentences name.
      ffmpeg: the process, which reads frames from its stdin until its stdin is closed.
      said: file that collects ffmpeg's output.
    """

    def __init__(self, path: Path, ffmpeg: subprocess.Popen[bytes], said: IO[bytes]):
        assert ffmpeg.stdin is not None
        self._path, self._ffmpeg, self._stream, self._said = path, ffmpeg, ffmpeg.stdin, said
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame; raises UserError where ffmpeg has ended."""
        try:
            self._stream.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._refusal(error.strerror) from error
        self.frames += 1

    def finish(self) -> None:
        """Returns when ffmpeg has written all frames; raises UserError where ffmpeg could not."""
        try:
            self._stream.close()
        except OSError as error:
            raise self._refusal(error.strerror) from error
        if self._ffmpeg.wait() != 0:
            raise self._refusal(f"ffmpeg ended with {self._ffmpeg.returncode}")

    def end(self) -> None:
        """Ends ffmpeg, whatever it is doing. A second call does nothing."""
        with suppress(OSError):  # frames that are still in the buffer are dropped
            self._stream.close()
        self._ffmpeg.kill()
        self._ffmpeg.wait()

    def _refusal(self, reason: str | None) -> UserError:
        """Makes the error from ffmpeg's last line of output, after giving ffmpeg a moment to write it."""
        with suppress(OSError):
            self._stream.close()  # otherwise ffmpeg waits for more frames while this method waits for ffmpeg
        with suppress(subprocess.TimeoutExpired):
            self._ffmpeg.wait(SECONDS_FOR_LAST_WORDS)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return UserError(f"{self._path}: the video cannot be encoded: {lines[-1] if lines else reason}")


@contextmanager
def video_place(path: Path) -> Iterator[None]:
    """Reserves the path of a video, so that no other process writes it meanwhile.

    The path is checked before a game is played, so that no game is played in vain.

    Raises:
      UserError: the video cannot be written there, or another process is writing it.
    """
    unfinished = unfinished_path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has this name")
        try_to_write(path.parent, path)
        lock = FileLock(unfinished, blocking=False)  # locks the unfinished video itself, so no lock file remains
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{path}: another process is writing this video; wait for it, or choose another name with --out"
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
    """Writes a video, which appears at ``path`` only when it is complete.

    The caller reserves the path with ``video_place``. ffmpeg has always ended when the context is left.

    Args:
      path: where the video goes.
      size: width and height of the frames, both even.

    Raises:
      UserError: ffmpeg is missing, cannot encode the frames, or cannot write the file.
    """
    unfinished = unfinished_path(path)
    with open(os.memfd_create("ffmpeg"), "w+b") as said:
        try:
            ffmpeg = subprocess.Popen(_command(unfinished, size), stdin=subprocess.PIPE, stdout=said, stderr=said)
        except (OSError, RuntimeError) as error:  # imageio-ffmpeg raises RuntimeError where there is no ffmpeg
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
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "veryfast"),
        *("-bf", "0", "-movflags", "+faststart"),
        str(path.absolute()),
    ]
