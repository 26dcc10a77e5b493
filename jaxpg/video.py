"""Writing H.264 videos. The only file that imports imageio-ffmpeg."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from jaxpg.errors import UserError

FRAMES_PER_SECOND = 60


class VideoWriter:
    """Frames of one size, ``uint8[H, W, 3]``, H and W even, at 60 a second."""

    def __init__(self, process: Any):
        self._process = process
        self.frames = 0

    def write(self, frame: np.ndarray) -> None:
        self._process.send(np.ascontiguousarray(frame))
        self.frames += 1


@contextmanager
def write_video(path: Path, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Opens a video of ``size`` (width, height); it is at ``path`` when it is whole, and not before.

    Raises:
      UserError: the file cannot be written or the frames cannot be encoded.
    """
    unfinished = path.with_name(f".{path.name}.unfinished.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()  # a folder that cannot be written is found before the game is played
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    process = imageio_ffmpeg.write_frames(
        str(unfinished),
        size,
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        macro_block_size=2,
        quality=None,
        output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
    )
    try:
        process.send(None)
        yield VideoWriter(process)
        process.close()
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path}: the video cannot be encoded: {str(error).splitlines()[0]}") from error
    finally:
        process.close()
        unfinished.unlink(missing_ok=True)
