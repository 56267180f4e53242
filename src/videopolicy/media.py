"""Video files: MP4 with H.264, written aside and renamed, read back through PyAV."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from os import getpid
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from videopolicy.colours import Colours, label
from videopolicy.errors import UserError, explain_os_error
from videopolicy.mp4 import picture_table
from videopolicy.pointers import refuse_empty, refuse_pointer
from videopolicy.types import Frames

# What the containers of video are called; others, such as play lists, have pictures be fetched from other places.
_CONTAINERS = {"format_whitelist": "mov,matroska,avi,mpegts"}
# How they begin, nearly always: bytes, and from which byte on.
_HEADS = ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"\x47"))
# Frames from one key frame to the next: a decoder that jumps into the file decodes at most this many in vain.
KEY_FRAME_EVERY = 10
# Pictures before the first one wanted at which decoding starts. Where key frames are not clean cuts (open groups of
# pictures, intra refresh), the nearest one is too late, and a farther one is tried.
_STEPS_BACK = (0, 32, 300)


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
        self._container = av.open(_place(path), "w", format="mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf, self._full_colour, self._format = crf, full_colour, ""
        self._stream: VideoStream | None = None
        self._colours = Colours(path)
        self._count = 0

    def write(self, frames: Frames) -> None:
        """Appends frames (N, H, W, 3); all calls must bring the same H and W."""
        stream = self._stream or self._open(*frames.shape[1:3])
        for position, pixels in enumerate(frames):
            frame = self._colours.picture(pixels, self._format)
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
        self._format = "yuv444p" if self._full_colour or height % 2 or width % 2 else "yuv420p"
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = height, width
        stream.pix_fmt = self._format
        # No B-frames: frames come out in the order they went in, and a jump decodes less. One thread: frames are small.
        stream.options = {"crf": str(self._crf), "bf": "0", "g": str(KEY_FRAME_EVERY), "threads": "1"}
        label(stream.codec_context)
        self._stream = stream
        return stream


class Decoder:
    """Reads blocks of frames from one video file, which stays open.

    Frame i is the picture on screen i / fps seconds after the first one. In a file of constant rate that is its i-th
    picture; one of variable rate, as phones record, is laid on an even grid by repeating and dropping pictures.
    Pictures come upright, turned as the file says.

    Args:
        path: the file.

    Attributes:
        fps: frames a second of the grid.

    Raises:
        UserError: the file is missing, empty, a pointer of Git LFS, cut short, or holds no video.
    """

    def __init__(self, path: Path):
        self._path = path
        film = _open(path)
        self._container, self._stream = film.container, film.stream
        self.fps, self._shown = film.fps, film.shown
        self._times: list[int] = film.times.tolist()
        self._decoded: Iterator[VideoFrame] = iter(())
        self._colours = Colours(path)
        # The picture that `_decoded` gives next; past the last one, there is none.
        self._next = len(self._times)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._shown)

    def read(self, start: int, stop: int) -> Frames:
        """Decodes frames start to stop - 1, (stop - start, H, W, 3).

        Raises:
            UserError: the file holds fewer frames or cannot be decoded.
        """
        if stop > len(self):
            found = f"only {len(self)} of the {stop} frames that are needed are there"
            raise UserError(f"{self._path}: {found}; the file is cut short or does not belong to its tables")
        wanted, done = self._shown[start:stop].tolist(), 0
        context = self._stream.codec_context
        frames = np.empty((len(wanted), context.height, context.width, 3), np.uint8)
        for back in _STEPS_BACK:
            if done < len(wanted):
                with _explained(self._path):
                    frames, done = self._block(wanted, back)
        if done < len(wanted):
            raise UserError(f"{self._path}: frame {start + done} cannot be decoded; the file is cut short or damaged")
        return frames

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _block(self, wanted: list[int], back: int) -> tuple[Frames, int]:
        """These pictures, and how many could be had, from a key frame at least `back` pictures before the first."""
        frames, done = np.empty((0, 0, 0, 3), np.uint8), 0
        for number, frame in self._from(wanted[0], back):
            if number > wanted[done] or (frame.is_corrupt and number == wanted[done]):
                break
            if number == wanted[done]:
                pixels = self._colours.pixels(frame)
                if frame.rotation:
                    pixels = np.rot90(pixels, self._quarters(frame.rotation))
                if done == 0:
                    frames = np.empty((len(wanted), *pixels.shape), np.uint8)
                if pixels.shape != frames.shape[1:]:
                    raise UserError(f"{self._path}: the pictures change their size on the way; one size is needed")
                until = bisect_right(wanted, number)
                frames[done:until], done = pixels, until
            if done == len(wanted):
                break
        return frames, done

    def _quarters(self, rotation: float) -> int:
        """Degrees as quarter turns; a damaged matrix has no angle, which C turns into a very large number."""
        if abs(rotation) > 360:
            raise UserError(f"{self._path}: says that its pictures are turned, but not how; the file is damaged")
        return round(rotation / 90)

    def _from(self, first: int, back: int) -> Iterator[tuple[int, VideoFrame]]:
        """Numbered pictures, in order; without a jump if the first one is near and back is 0."""
        if back or not 0 <= first - self._next <= KEY_FRAME_EVERY:
            # Some formats jump by the times of decoding, which may lie before the first picture's own.
            time = self._times[first - back] if first > back else min(self._times[0], 0)
            self._container.seek(time, stream=self._stream, backward=True)
            self._decoded = self._container.decode(self._stream)
        self._next = len(self._times)
        for frame in self._decoded:
            if frame.pts is not None:
                number = _nearest(self._times, frame.pts)
                self._next = number + 1
                yield number, frame
                self._next = len(self._times)


@dataclass(frozen=True)
class Probe:
    """What a video file holds, without decoding it.

    Attributes:
        frames: how many; what `len` of a `Decoder` says.
        fps: frames a second, as a `Decoder` says.
        height: pixels of a picture as it is stored, which may have to be turned.
        width: the same.
        depth: whether pictures are of one component of more than 8 bits, as depth cameras give, and not of colours.
        hidden: how many more are stored, which the file's edit list leaves out.
    """

    frames: int
    fps: float
    height: int
    width: int
    depth: bool
    hidden: int


def probe(path: Path) -> Probe:
    """Looks at a video file and closes it again; an MP4 of even rate is not read through.

    Raises:
        UserError: as `Decoder`.
    """
    film = _open(Path(path))
    try:
        context = film.stream.codec_context
        components = context.format.components if context.format else ()
        depth = len(components) == 1 and components[0].bits > 8
        return Probe(len(film.shown), film.fps, context.height, context.width, depth, film.hidden)
    finally:
        film.container.close()


@dataclass(frozen=True)
class _Film:
    """An open file: when its pictures are shown, how many others it has, its rate, and which picture each frame is."""

    container: InputContainer
    stream: VideoStream
    times: np.ndarray
    hidden: int
    fps: float
    shown: np.ndarray


def _open(path: Path) -> _Film:
    with _explained(path):
        refuse_pointer(path)
        refuse_empty(path)
        # What a file says of itself in words may be damaged, its pictures sound.
        container = av.open(_place(path), options=_CONTAINERS, metadata_errors="replace")
        try:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video")
            stream = container.streams.video[0]
            if not stream.codec_context:
                raise UserError(f"{path}: its pictures are coded in an unknown way; the file is damaged, or too new")
            stream.codec_context.thread_count = 1
            if stream.codec_context.name == "mjpeg":
                # Else what is damaged in a picture looks like the one before, and is not said to.
                stream.codec_context.options = {"err_detect": "explode"}
            times, hidden = _times(path, container, stream)
        except BaseException:
            container.close()
            raise
    seconds = (times - times[0]) * float(stream.time_base or 1)
    return _Film(container, stream, times, hidden, *_grid(seconds, float(stream.average_rate or 0)))


def _place(path: Path) -> str:
    """Absolute, as FFmpeg takes what stands before a colon for a protocol."""
    return str(path.absolute())


def _times(path: Path, container: InputContainer, stream: VideoStream) -> tuple[np.ndarray, int]:
    """When each picture of the stream is shown, in ticks of its time base, ascending; and how many are never shown.

    Nothing is decoded.
    """
    said = picture_table(path) if "mp4" in container.format.name else None
    if said and not said.whole:
        raise UserError(f"{path}: ends before its last picture; the file is cut short")
    if said and said.step and stream.start_time is not None:
        # An even step says all without reading the file, even of pictures that are stored in another order.
        return stream.start_time + said.step * np.arange(said.count), 0
    if "matroska" in container.format.name:
        _refuse_cut_matroska(path)
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = [packet.dts if packet.pts is None else packet.pts for packet in packets]
    if not times:
        raise UserError(f"{path}: holds no pictures; the file is cut short or damaged")
    if None in times:
        raise UserError(f"{path}: its pictures have no times; give it in another format, as MP4")
    # An edit list of an MP4 may hide some of them.
    fewer = said is None and len(packets) < stream.frames
    if fewer or any(packet.is_corrupt for packet in packets):
        raise UserError(f"{path}: not all of its pictures are there; the file is cut short or damaged")
    distinct = np.unique(np.array(times, np.int64))
    # But in MP4, the two fields of an interlaced picture may come one by one.
    if len(distinct) < len(times) / (1 if said else 2):
        raise UserError(f"{path}: many of its pictures have one time; the file is damaged")
    if "matroska" in container.format.name and len(container.streams) == 1:
        _refuse_early_end(path, distinct * float(stream.time_base or 1), (container.duration or 0) / av.time_base)
    return distinct, said.count - len(packets) if said else 0


def _refuse_cut_matroska(path: Path) -> None:
    """MKV and WebM have no index that misses what was cut off, but say how long they are (RFC 8794, 8.1)."""
    with path.open("rb") as file:
        head, end = file.read(4096), path.stat().st_size
    at = head.find(b"\x18\x53\x80\x67") + 4
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 4:
        return
    # The leading zeros of the first byte count the bytes that follow it; all other bits set: the size is unknown.
    follow = 8 - head[at].bit_length()
    bits = 7 * (follow + 1)
    size = int.from_bytes(head[at : at + follow + 1]) & ((1 << bits) - 1)
    if size != (1 << bits) - 1 and at + follow + 1 + size > end:
        raise UserError(f"{path}: ends before its last picture; the file is cut short")


def _refuse_early_end(path: Path, seconds: np.ndarray, duration: float) -> None:
    """Past a damaged block, the rest of an MKV or WebM may not be found; but it says how long it is, if not always."""
    steps = np.diff(seconds)
    # Where the rate is no even one, the last picture may be shown long.
    if len(steps) and steps.max() < 1.5 * steps.min() and seconds[-1] + 2.5 * steps.mean() < duration:
        raise UserError(f"{path}: pictures are missing at its end; the file is damaged")


def _grid(seconds: np.ndarray, rate: float) -> tuple[float, np.ndarray]:
    """Frames a second, and which picture is on screen at each frame, for pictures shown at these times from 0 on."""
    count = len(seconds)
    if count > 1:
        mean = float(seconds[-1]) / (count - 1)
        # What the file says is often an estimate, from its first pictures or with an odd last one.
        if abs(rate * mean - 1) * count > 0.5:
            rate = 1 / mean
        if np.abs(seconds - mean * np.arange(count)).max() < mean / 2:
            return rate, np.arange(count)
    elif not rate:
        rate = 1.0
    frames = np.arange(int(seconds[-1] * rate + 1e-3) + 1)
    return rate, np.searchsorted(seconds, (frames + 1e-3) / rate, "right") - 1


def _nearest(times: list[int], time: int) -> int:
    after = bisect_left(times, time)
    if after == len(times) or (after and time - times[after - 1] < times[after] - time):
        return after - 1
    return after


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
        what = "is a link to a file that is not there" if path.is_symlink() else "no such video file"
        raise UserError(f"{path}: {what}") from error
    except FFmpegError as error:
        raise UserError(f"{path}: not a readable video; {_cause(path)}") from error
    except OSError as error:
        told = explain_os_error(OSError(error.errno, error.strerror, str(path)))
        raise told or UserError(f"{path}: cannot be read; the disk or the network behind it fails") from error


def _cause(path: Path) -> str:
    """Why FFmpeg cannot read a file; its own words name the path once more, and speak to programmers."""
    with path.open("rb") as file:
        head = file.read(8)
    if any(head[at:].startswith(begin) for at, begin in _HEADS):
        return "the file is cut short or damaged; copy or download it again"
    return "it begins like none of MP4, MOV, MKV, WebM, AVI and MPEG-TS; give it in one of these"
