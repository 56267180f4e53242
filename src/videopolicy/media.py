"""Video files: MP4 with H.264, written aside and renamed, read back through PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import getpid
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from videopolicy.errors import UserError
from videopolicy.types import Frames

# Frames from one key frame to the next: a decoder that jumps into the file decodes at most this many in vain.
KEY_FRAME_EVERY = 10


class Encoder:
    """Writes one MP4 file, block by block; every block begins with a key frame, so that reading can start there.

    Args:
        path: the file; it is written in place, so give a temporary name.
        fps: frames a second.
        crf: H.264's constant rate factor; lower is better and larger, 18 looks like the source to the eye.
        full_colour: keep every pixel's own colour (4:4:4), which small images need and browsers may not play; frames of
            odd height or width always do. Otherwise four pixels share one (4:2:0).
    """

    def __init__(self, path: Path, fps: float, crf: int = 15, full_colour: bool = False):
        self._container = av.open(str(path), "w", format="mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf, self._full_colour = crf, full_colour
        self._stream: VideoStream | None = None
        self._count = 0

    def write(self, frames: Frames) -> None:
        """Appends frames (N, H, W, 3); all calls must bring the same H and W."""
        stream = self._stream or self._open(*frames.shape[1:3])
        for position, pixels in enumerate(frames):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self._count, 1 / self._rate
            if position == 0:
                frame.pict_type = PictureType.I
            self._container.mux(stream.encode(frame))
            self._count += 1

    def close(self) -> None:
        """Writes what is buffered and the file's index."""
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _open(self, height: int, width: int) -> VideoStream:
        full_colour = self._full_colour or height % 2 or width % 2
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv444p" if full_colour else "yuv420p"
        # No B-frames: frames come out in the order they went in, and a jump decodes less. One thread: frames are small.
        stream.options = {"crf": str(self._crf), "bf": "0", "g": str(KEY_FRAME_EVERY), "threads": "1"}
        self._stream = stream
        return stream


class Decoder:
    """Reads blocks of frames from one MP4 file, which stays open.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, cut short, or holds no video.
    """

    def __init__(self, path: Path):
        self._path = path
        with _explained(path):
            self._container = av.open(str(path))
            if not self._container.streams.video:
                raise UserError(f"{path}: holds no video")
            self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self.fps = float(self._stream.average_rate or 0)

    def __len__(self) -> int:
        """The number of frames that the file's index names."""
        return self._stream.frames

    def read(self, start: int, stop: int) -> Frames:
        """Decodes frames start to stop - 1, (stop - start, H, W, 3).

        Raises:
            UserError: the file holds fewer frames or cannot be decoded.
        """
        with _explained(self._path):
            pixels = [frame.to_ndarray(format="rgb24") for frame in self._frames(start, stop)]
        if len(pixels) != stop - start:
            found = f"only {start + len(pixels)} of the {stop} frames that are needed could be read"
            raise UserError(f"{self._path}: {found}; the file is cut short or does not belong to its tables")
        return np.stack(pixels)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _frames(self, start: int, stop: int) -> Iterator[VideoFrame]:
        base, origin = self._stream.time_base or Fraction(1), self._stream.start_time or 0
        self._container.seek(origin + round(start / self.fps / base), stream=self._stream, backward=True)
        for frame in self._container.decode(self._stream):
            index = round(((frame.pts or 0) - origin) * base * self.fps)
            if index >= start:
                yield frame
            if index >= stop - 1:
                return


def write_mp4(path: Path, frames: Frames, fps: float, crf: int = 15, full_colour: bool = False) -> None:
    """Writes frames (N, H, W, 3) as an H.264 MP4; the file appears whole or not at all. See `Encoder`."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{getpid()}.partial")
    try:
        with Encoder(aside, fps, crf, full_colour) as encoder:
            encoder.write(frames)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_mp4(path: Path) -> Frames:
    """Every frame of a video file, (N, H, W, 3).

    Raises:
        UserError: the file is missing, cut short, or holds no video.
    """
    decoder = Decoder(Path(path))
    try:
        return decoder.read(0, len(decoder))
    finally:
        decoder.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such video file") from error
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path}: not a readable video; the file is cut short or damaged ({error})") from error
