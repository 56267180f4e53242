"""Names and phrases that the first edition had, and that one finds nothing under any more."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".sbatch", ".txt", ".cfg", ".json", ".html", ".css", ".js", ""}
FOLDERS = ("src", "tests", "packages", "examples", "experiments", "docs", "configs", ".ci", ".github")
# A page stays as the first edition wrote it, a change log tells of old names, and old files have old keys.
SPARED = {
    "CHANGELOG.md",
    "experiments/libero_object/page.html",
    "src/videopolicy/upgrades.py",
    "tests/test_upgrades.py",
}

# Identifiers of Python; the same words in prose are English.
IDENTIFIERS = {
    *("VideoPolicy", "Planner", "VideoPlanner", "Together", "Ahead", "Draws", "Trouble", "Guard", "Journal", "Meter"),
    *("HeldOut", "Learner", "Crew", "World", "ArmWorld", "RemoteLink", "LocalLink", "Respaced", "Space", "demos"),
    *("world", "worlds", "heldout", "seen_from", "learnt_space", "put_in_place", "state_space"),
    *("Spaces", "SPACE", "ARM_SPACE", "check_spaces", "take_again", "relative_policy"),
}
# Methods and attributes.
MEMBERS = {"look", "looks"}
# Functions of the library's own; tests may call theirs so.
FUNCTIONS = {"joined", "heard", "belong", "naming", "within", "refused", "collected", "gathered"}
# Whatever the file.
TEXT = (
    r"--world\b",
    r"--(action|state|\{\w+\})-space\b",
    r"(?<!Meta-)(?<!real )(\b|\\n)[Ww]orlds?\b(?![- ]([Mm]odels?|action))",
    r"\bMeta-Env\b",
    r"\bdemos\b",
    r"\bheld_out\.jsonl\b",
    r"\bspeed\.jsonl\b",
    r"\bRUN/trouble\b",
    r"\bstate spaces?\b",
    r"\bvideopolicy[./](demos|worlds|samplers|model|text[./]words)\b",
    r"\bvideopolicy[./]rollout[./](crew|links|local|remote|record|recording)\b",
    r"\btests/(demos|worlds|samplers)\b",
    r"\bseen_from_the_gripper\b",
)
# In prose as in programs, in capitals or not: words that have another meaning in the field, or none.
PROSE = (
    r"\b(planner|learner|crew|journal|trouble)s?\b",
    r"\b(another|learnt|named|relative) (action |state )?spaces?\b",
    r"\bspace of the (actions|states)\b",
    r"\bgood for nothing\b",
    r"\bnobody said\b",
    r"\bso-manieth\b",
    r"\ba shop\b",
    r"\bunderstood\b",
)


def files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    # The suite's own coverage lies there as .coverage, which is no text.
    found += [path for path in ROOT.iterdir() if path.suffix in KINDS and not path.name.startswith(".coverage")]
    return [path for path in found if path.is_file() and path.suffix in KINDS and not spared(path)]


def spared(path: Path) -> bool:
    return path == Path(__file__) or "__pycache__" in path.parts or str(path.relative_to(ROOT)) in SPARED


def words(source: str) -> list[tuple[str, str, str, int]]:
    """The names in a program, comments and strings aside: what comes before it, the name, what comes after it, line."""
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type != tokenize.COMMENT]
    threes = zip(["", *(t.string for t in tokens)], tokens, [*(t.string for t in tokens[1:]), ""], strict=False)
    return [(before, t.string, after, t.start[0]) for before, t, after in threes if t.type == tokenize.NAME]


def old_identifiers(source: str) -> list[str]:
    return [
        f"{line}: {name}"
        for before, name, _, line in words(source)
        if name in IDENTIFIERS or (name in MEMBERS and before in (".", "def"))
    ]


def old_functions(source: str) -> list[str]:
    return [f"{line}: {name}" for _, name, after, line in words(source) if name in FUNCTIONS and after == "("]


def old_text(text: str) -> list[str]:
    lines = text.splitlines()
    return [f"{n}: {m.group()}" for n, line in enumerate(lines, 1) for old in TEXT for m in re.finditer(old, line)]


def old_prose(text: str) -> list[str]:
    """Of identifiers, the words that underscores part; and a phrase may go on in the next line."""
    spaced = re.sub(r"[ \t]*\n[ \t#]*", "\n", text.replace("_", " "))
    phrases = [re.compile(old.replace(" ", r"\s"), re.IGNORECASE) for old in PROSE]
    found = [(1 + spaced.count("\n", 0, m.start()), m.group()) for old in phrases for m in old.finditer(spaced)]
    return [f"{line}: {phrase}" for line, phrase in sorted(found)]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (old_identifiers, "from x import Planner"),
        (old_identifiers, "env.look()"),
        (old_identifiers, "def looks(self): pass"),
        (old_functions, "def within(name): pass"),
        (old_functions, "belong()"),
        (old_text, "evaluate --world libero"),
        (old_text, "A world that hangs"),
        (old_text, r"title = 'x'\nworld = 'y'"),
        (old_text, "`videopolicy.demos.lerobot`"),
        (old_text, "RUN/held_out.jsonl"),
        (old_prose, "What the planner would do"),
        (old_prose, "# a gripper; nobody\n    # said which value is open"),
        (old_prose, "def test_crews(): pass"),
        (old_prose, "Actions in another space"),
    ],
)
def test_an_old_name_is_noticed(rule, text):
    assert rule(text)


def test_english_is_no_old_name():
    assert not old_identifiers("'Together they look at the world'  # no Planner")
    assert not old_identifiers("look = getattr(a, 'recognises')")
    assert not old_functions("joined = ' '.join(heard)")
    assert not old_text("World models and world-action models, on Meta-World")
    assert not old_prose("Clipped to the action space; millimeters, and the space that the video is denoised in")


@pytest.mark.parametrize(
    ("rule", "folder", "kinds"),
    [
        (old_identifiers, ROOT, {".py"}),
        (old_functions, ROOT / "src", {".py"}),
        (old_text, ROOT, KINDS),
        (old_prose, ROOT, KINDS),
    ],
    ids=["identifiers", "functions", "text", "prose"],
)
def test_old_names_are_gone(rule, folder, kinds):
    chosen = [path for path in files() if path.is_relative_to(folder) and path.suffix in kinds]
    found = {str(path.relative_to(ROOT)): rule(path.read_text(encoding="utf-8")) for path in chosen}
    assert chosen
    assert not {path: names for path, names in found.items() if names}
