"""Where in a video of many episodes each one's frames are, when what is said of that may be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path

from videopolicy.datasets.base import SAME_RATE
from videopolicy.datasets.lerobot.listing import Span
from videopolicy.datasets.notes import Note
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError
from videopolicy.media import Probe, probe

# Frames that an episode may lack at its end, or have too many, and still be the one of its rows: so many, or this
# share of its steps. Recorders that stop between a row and its frame leave one out.
_FEW, _SHARE = 2, 0.05
# Share of the rate by which a video's own may differ for the grain of its clock; that of television differs by 0.001.
_CLOCK = 0.0005


@dataclass(frozen=True)
class Footage:
    """Where one view of one episode is.

    Attributes:
        file: the video.
        first: the number of its frame that is the episode's first.
        count: how many frames there are of it.
    """

    file: Path
    first: int
    count: int


@dataclass(frozen=True)
class Wanted:
    """An episode whose frames are looked for.

    Attributes:
        index: its number.
        rows: its control steps.
        length: as the descriptions have them; None if they do not.
        span: where it is said to be; None if that is not said.
    """

    index: int
    rows: int
    length: int | None
    span: Span | None


@dataclass
class FoundFrames:
    """The frames of one view.

    Attributes:
        footage: by episode.
        lost: episode -> why its frames cannot be had.
        notes: what is not as it is said to be.
        depth: whether its pictures are those of a depth camera.
        contradictory: whether what is said of some cannot be true, rather than being in doubt.
        counts: file -> its frames, and the control steps of the episodes that are said to be in it.
    """

    footage: dict[int, Footage] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    depth: bool = False
    contradictory: bool = False
    counts: dict[Path, tuple[int, int]] = field(default_factory=dict)


def few(length: int) -> int:
    """How many frames an episode of so many steps may have too few or too many."""
    return max(_FEW, int(_SHARE * length))


def find(wanted: Sequence[Wanted], folder: Path, files: Sequence[Path], fps: float, old: bool) -> FoundFrames:
    """The frames of one view of these episodes.

    Args:
        wanted: the episodes, by rising numbers.
        folder: where the videos are.
        files: all of the view, in order.
        fps: the data set's rate.
        old: whether each episode has a video of its own.
    """
    found = FoundFrames()
    shared = dict[Path, list[Wanted]]()
    for one in wanted:
        if one.span:
            shared.setdefault(one.span.file, []).append(one)
    for path, inside in sorted(shared.items()):
        video = _probed(path, fps, found)
        if isinstance(video, str):
            found.lost |= {one.index: video for one in inside}
            found.contradictory = found.contradictory or not path.exists()
            continue
        found.counts[path] = video.frames, sum(one.rows for one in inside)
        if old:
            found.footage |= {one.index: Footage(path, 0, video.frames) for one in inside}
        else:
            _Placing(path, video, inside, fps, found).place()
    _place_unsaid([one for one in wanted if one.span is None], folder, files, fps, found)
    return _in_order(wanted, folder, files, fps, found) if found.contradictory else found


def _in_order(
    wanted: Sequence[Wanted], folder: Path, files: Sequence[Path], fps: float, found: FoundFrames
) -> FoundFrames:
    """All episodes one after the other, if their lengths add up to the frames of every file."""
    other = FoundFrames(depth=found.depth)
    _place_unsaid(wanted, folder, files, fps, other)
    if other.lost:
        return found
    told = (
        f"{files[0].parent.parent}: the time spans in meta/episodes contradict each other, or the files that are there"
    )
    how = "the episodes are read one after the other instead, as their lengths add up to the frames of every file"
    return replace(other, notes=[Note("mended", f"{told}; {how}", tuple(one.index for one in wanted))])


def _probed(path: Path, fps: float, found: FoundFrames) -> Probe | str:
    """What a video is, or why it is of no use."""
    try:
        video = probe(path)
    except UserError as error:
        return str(error)
    found.depth = found.depth or video.depth
    if abs(video.fps - fps) > SAME_RATE * fps:
        return f"{path}: has {video.fps:g} frames a second, but meta/info.json says {fps:g}; mend its fps"
    if abs(video.fps - fps) > _CLOCK * fps:
        told = f"{path}: has {video.fps:.6g} frames a second, not {fps:g} as the data set says"
        found.notes.append(Note("mended", f"{told}; they are counted, not timed"))
    return video


class _Placing:
    """The frames of the episodes that share a file.

    Spans must partition it. Where they do not, but the episodes' lengths in their order add up to its frames, these
    are what counts; else an episode whose span is not its length, or is another's too, is lost.
    """

    def __init__(self, path: Path, video: Probe, wanted: Sequence[Wanted], fps: float, found: FoundFrames) -> None:
        self._path, self._video, self._wanted, self._found = path, video, wanted, found
        rows, said = [one.rows for one in wanted], [one.length or one.rows for one in wanted]
        # Where the lists and the rows differ, the video knows which are right.
        self._lengths = rows if sum(rows) == video.frames != sum(said) else said
        begins = accumulate(self._lengths[:-1], initial=0)
        self._added = list(zip(begins, self._lengths, strict=True))
        self._said = self._frames(video.fps)
        # Times that were written by another clock than the file's are the same frames if they say so throughout.
        self._exact = self._added in (self._said, self._frames(fps))

    def place(self) -> None:
        """Finds them all, and says what was wrong."""
        missing = sum(self._lengths) - self._video.frames
        if self._exact:
            self._take(self._added)
            if missing < 0:
                self._tell_unused(sum(self._lengths), self._video.frames)
        elif 0 <= missing <= few(self._lengths[-1]) and self._rising_or_wrong():
            wrong = self._wrong()
            how = "the episodes are read one after the other instead, as their lengths add up to the frames of the file"
            numbers = tuple(one.index for one in self._wanted)
            self._found.notes.append(Note("mended", f"{self._path}: {wrong}; {how}", numbers))
            self._take(self._added)
        else:
            self._take_one_by_one()

    def _frames(self, fps: float) -> list[tuple[int, int] | None]:
        """First frame and number of frames by the spans, at this rate."""
        found: list[tuple[int, int] | None] = []
        for one, length in zip(self._wanted, self._lengths, strict=True):
            span = one.span
            if span is None or span.begin is None:
                found.append(None)
                continue
            count = length if span.end is None else round((span.end - span.begin) * fps)
            found.append((round(span.begin * fps), count))
        return found

    def _take(self, places: Sequence[tuple[int, int]]) -> None:
        for one, (first, length) in zip(self._wanted, places, strict=True):
            count = min(length, self._video.frames - first)
            if count < 1:
                end = f"ends after {plural(self._video.frames, 'frame')}, before an episode begins"
                self._found.lost[one.index] = f"{self._path}: {end}; it is cut short"
            else:
                self._found.footage[one.index] = Footage(self._path, first, count)

    def _rising_or_wrong(self) -> bool:
        """Whether the spans cannot be a true order other than that of the numbers: they rise, or contradict."""
        known = [place for place in self._said if place is not None]
        rising = all(a[0] <= b[0] for a, b in pairwise(known))
        return rising or self._overlap() is not None or any(count < 1 for _, count in known)

    def _overlap(self) -> tuple[int, int, float] | None:
        """The first two episodes whose spans have more than a frame in common, and the seconds that they have."""
        known = [(place, one.index) for place, one in zip(self._said, self._wanted, strict=True) if place]
        for ((first, count), index), ((after, _), other) in pairwise(sorted(known)):
            if first + count > after:
                return index, other, (first + count - after) / self._video.fps
        return None

    def _wrong(self) -> str:
        if overlap := self._overlap():
            return f"the time spans of episodes {overlap[0]} and {overlap[1]} overlap by {overlap[2]:.2f} s"
        for place, added, one in zip(self._said, self._added, self._wanted, strict=True):
            if place is None:
                return f"no time span of episode {one.index} is given"
            if place != added:
                late = (place[0] - added[0]) / self._video.fps
                how = (
                    f"begins {abs(late):.2f} s too {'late' if late > 0 else 'early'}" if late else "has a wrong length"
                )
                return f"the time span of episode {one.index} {how}"
        return "the time spans of the episodes do not make up the file"

    def _take_one_by_one(self) -> None:
        """Each episode by its own span, if that can be true."""
        taken: list[tuple[int, int]] = []
        fits = sum(self._lengths) == self._video.frames
        each = zip(self._wanted, self._lengths, self._said, self._added, strict=True)
        for number, (one, length, place, added) in enumerate(each):
            cause = self._cause(number, length, place)
            self._found.contradictory = self._found.contradictory or bool(cause)
            # A true order of its own is believed where lengths tell the episodes apart.
            if not cause and fits and place != added and self._lengths.count(length) > 1:
                cause = (
                    "the time spans do not come in the order of the episodes, which are of one length; "
                    "which frames belong to which cannot be told"
                )
            if cause or place is None:
                self._found.lost[one.index] = (
                    f"{self._path}: {cause}; mend from_timestamp and to_timestamp in meta/episodes"
                )
            else:
                self._found.footage[one.index] = Footage(
                    self._path, place[0], min(length, self._video.frames - place[0])
                )
                taken.append((place[0], place[0] + length))
        self._tell_gaps(sorted(taken))

    def _cause(self, number: int, length: int, place: tuple[int, int] | None) -> str:
        if place is None:
            return "no time span of an episode is given"
        first, count = place
        if count != length:
            has = f"the episode has {plural(length, 'step')}"
            return f"the time span of an episode holds {plural(count, 'frame')}, but {has}"
        if first < 0 or length - few(length) > self._video.frames - first:
            return f"the time span of an episode ends after the last of the {plural(self._video.frames, 'frame')}"
        for other, its in enumerate(self._said):
            if other != number and its and its[0] < first + count and first < its[0] + its[1]:
                pair = sorted((self._wanted[number].index, self._wanted[other].index))
                return f"the time spans of episodes {pair[0]} and {pair[1]} overlap"
        return ""

    def _tell_gaps(self, taken: Sequence[tuple[int, int]]) -> None:
        if not self._found.lost:
            for (_, end), (begin, _) in pairwise([(0, 0), *taken, (self._video.frames, 0)]):
                if begin > end:
                    self._tell_unused(end, begin)

    def _tell_unused(self, start: int, stop: int) -> None:
        text = f"{self._path}: frames {start} to {stop - 1} belong to no episode that can be read"
        self._found.notes.append(Note("unused", text))


def _place_unsaid(
    wanted: Sequence[Wanted], folder: Path, files: Sequence[Path], fps: float, found: FoundFrames
) -> None:
    """Episodes of which nobody says where they are: one after the other, behind those of which it is known."""
    if not wanted:
        return
    begun = max((one.file for one in found.footage.values()), default=None)
    at = max((one.first + one.count for one in found.footage.values() if one.file == begun), default=0)
    rest = [file for file in files if begun is None or file >= begun]
    left = list(wanted)
    for file in rest:
        video = _probed(file, fps, found)
        if isinstance(video, str):
            break
        here = _fitting(left, video.frames - at)
        if here is None:
            break
        for one in left[:here]:
            found.footage[one.index] = Footage(file, at, one.rows)
            at += one.rows
        left, at = left[here:], 0
    cause = "which frames belong to an episode is not said, and the lengths of the episodes do not add up to the files"
    found.lost |= {one.index: f"{folder}: {cause}" for one in left}


def _fitting(left: Sequence[Wanted], frames: int) -> int | None:
    """How many of the next episodes make up so many frames; None if none do."""
    count = 0
    while frames > 0 and count < len(left):
        frames -= left[count].rows
        count += 1
    return count if frames == 0 else None


def leave_out_exchanged(views: Mapping[str, FoundFrames]) -> None:
    """Loses the episodes of videos that stand in each other's place: their frames are as many as the others' steps."""
    odd = {file: n for found in views.values() for file, n in found.counts.items() if n[0] != n[1]}
    if len(odd) < 2 or sorted(frames for frames, _ in odd.values()) != sorted(steps for _, steps in odd.values()):
        return
    first, second, *rest = odd
    names = f"{first} and {second}" + (f" and {len(rest)} more" if rest else "")
    cause = f"{names}: their numbers of frames are each other's; they were exchanged; give them their own names again"
    for found in views.values():
        lost = [index for index, footage in found.footage.items() if footage.file in odd]
        found.lost |= dict.fromkeys(lost, cause)
        for index in lost:
            del found.footage[index]
