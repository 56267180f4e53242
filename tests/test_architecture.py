"""Rules that hold for the whole tree. Each rule is also shown a text that breaks it."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from videopolicy import registry

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
OWN = [path for folder in ("src", "packages", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
PYTHON = [*OWN, *(path for folder in ("tests", "experiments") for path in sorted((ROOT / folder).rglob("*.py")))]
PAGES = [path for kind in ("html", "css", "js") for path in sorted((ROOT / "src").rglob(f"*.{kind}"))]
PROSE = [path for name in ("*.md", "Makefile", ".ci/*", "docs/*.md", "experiments/**/*.md") for path in ROOT.glob(name)]
NO_TORCH = ("actions", "client", "datasets", "envs", "clips", "rollout", "executors", "policies/base.py", "report")

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "np.random.seed", "numpy.random.seed", "random.seed", "set_seed"}
# Folders that exist on one machine only; a device file such as /dev/null is on all of them.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|mnt|scratch)/[\w.]")


def too_long(source: str, lines: int = 400) -> list[str]:
    count = len(source.splitlines())
    return [f"{count} lines"] if count > lines else []


def long_functions(source: str, lines: int = 60) -> list[str]:
    functions = (n for n in ast.walk(parsed(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [f"{f.name}, line {f.lineno}" for f in functions if f.end_lineno - f.lineno >= lines]


def unsafe_loading(source: str) -> list[str]:
    found = [module for module in imported(source) if module in UNSAFE_MODULES]
    for name, call in calls(source):
        keywords = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        if name == "torch.load" and keywords.get("weights_only") is not True:
            found.append(f"torch.load, line {call.lineno}")
        if name.endswith(".load") and keywords.get("allow_pickle", False) is not False:
            found.append(f"allow_pickle, line {call.lineno}")
    return found


def global_seeding(source: str) -> list[str]:
    """Calls that seed for everyone; inside a fork of torch's generator they seed for nobody else."""
    forks = [node for node in ast.walk(parsed(source)) if isinstance(node, ast.With) and "fork_rng" in _context(node)]
    spared = {line for fork in forks for line in range(fork.lineno, fork.end_lineno + 1)}
    seeding = [(name, call.lineno) for name, call in calls(source) if name in GLOBAL_SEEDS]
    return [f"{name}, line {line}" for name, line in seeding if line not in spared]


def machine_paths(source: str) -> list[str]:
    return MACHINE_PATH.findall(source)


def no_docstring(source: str) -> list[str]:
    tree = parsed(source)
    return ["no module docstring"] if tree.body and not ast.get_docstring(tree) else []


def no_encoding(source: str) -> list[str]:
    """Text that is read or written in whatever encoding the machine's locale has; ruff sees only some of it."""
    found = []
    for name, call in calls(source):
        keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        text = name.endswith((".read_text", ".write_text")) or keywords.get("text") is True
        if "encoding" not in keywords and (text or _opens_text(name, call, keywords)):
            found.append(f"{name}, line {call.lineno}")
    return found


def _opens_text(name: str, call: ast.Call, keywords: Mapping[str | None, object]) -> bool:
    """Whether a call opens what it says to be a text file."""
    builtin = name == "open"
    given = [getattr(argument, "value", None) for argument in call.args[builtin:]]
    mode = keywords.get("mode", given[0] if given else "r" if builtin else None)
    return (builtin or name.endswith(".open")) and isinstance(mode, str) and bool(re.fullmatch(r"[rwaxt+]+", mode))


def _context(node: ast.With) -> str:
    return " ".join(ast.unparse(item.context_expr) for item in node.items)


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def calls(source: str) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(parsed(source)) if isinstance(node, ast.Call)]


def imported(source: str) -> set[str]:
    """The top-level modules that a source imports, wherever the import stands."""
    found = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


RULES = [
    (too_long, [*PYTHON, *PAGES], "pass\n" * 401),
    (long_functions, PYTHON, "def f():\n" + "    pass\n" * 60),
    (unsafe_loading, OWN, "def f():\n    import pickle"),
    (unsafe_loading, OWN, "from joblib import load"),
    (unsafe_loading, OWN, "torch.load(path)"),
    (unsafe_loading, OWN, "torch.load(path, weights_only=False)"),
    (unsafe_loading, OWN, "np.load(path, allow_pickle=True)"),
    (global_seeding, OWN, "torch.manual_seed(0)"),
    (global_seeding, OWN, "with torch.random.fork_rng():\n    pass\ntorch.manual_seed(0)"),
    (global_seeding, OWN, "np.random.seed(0)"),
    (machine_paths, [*PYTHON, *PROSE], "Path('/" + "home/me/data')"),
    (no_docstring, OWN, "x = 1"),
    (no_encoding, PYTHON, "(folder / 'a').read_text()"),
    (no_encoding, PYTHON, "path.write_text(text)"),
    (no_encoding, PYTHON, "open(path)"),
    (no_encoding, PYTHON, "path.open('a')"),
    (no_encoding, PYTHON, "subprocess.run(command, text=True)"),
]


@pytest.mark.parametrize(("rule", "broken"), [(rule, broken) for rule, _, broken in RULES])
def test_a_rule_notices_what_breaks_it(rule, broken):
    assert rule(broken)


@pytest.mark.parametrize(
    ("rule", "files"), {rule: files for rule, files, _ in RULES}.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_the_tree_keeps_the_rule(rule, files):
    broken = {str(file.relative_to(ROOT)): rule(file.read_text(encoding="utf-8")) for file in files}
    assert not {file: found for file, found in broken.items() if found}


def test_every_import_is_a_declared_dependency():
    needed = [line for line in requires("videopolicy") if 'extra == "dev"' not in line]
    declared = {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in needed}
    distributions = packages_distributions()
    undeclared = {}
    for file in SOURCES:
        for module in imported(file.read_text(encoding="utf-8")) - sys.stdlib_module_names - {"videopolicy"}:
            names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            if not names & declared:
                undeclared[module] = str(file.relative_to(ROOT))
    assert not undeclared


def imports_of(source: str, name: str, package: bool, modules: Iterable[str]) -> set[str]:
    """The modules out of these that a source imports: at its top, lazily, for types alone, or by a constant name.

    Args:
        source: of the module.
        name: of the module, with dots.
        package: whether it is a package's `__init__`.
        modules: all that there are.
    """
    found = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = name.split(".")[: len(name.split(".")) - node.level + package] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            # A name out of a package may be a module of it.
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found & set(modules) - {name}


def circles(imports: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules each of which leads to all others of its set."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    leads = {module: reached(module) for module in imports}
    return {frozenset(m for m in leads[module] if module in leads[m]) for module in imports if module in leads[module]}


@pytest.mark.parametrize(
    "line",
    [
        "import p.b",
        "from p import b",
        "from p.b import f",
        "from . import b",
        "from .b import f",
        "def f():\n    import p.b",
        "if TYPE_CHECKING:\n    from p.b import f",
        "import_module('p.b').f()",
    ],
)
def test_a_circle_is_noticed_however_it_is_hidden(line):
    sources = {"p": "", "p.a": line, "p.b": "from p import c", "p.c": "import p.a", "p.d": "import p.a"}
    imports = {name: imports_of(source, name, name == "p", sources) for name, source in sources.items()}
    assert circles(imports) == {frozenset({"p.a", "p.b", "p.c"})}


def test_no_modules_import_each_other_in_a_circle():
    sources = {}
    for file in SOURCES:
        parts = file.relative_to(ROOT / "src").with_suffix("").parts
        sources[".".join(part for part in parts if part != "__init__")] = file
    imports = {
        name: imports_of(file.read_text(encoding="utf-8"), name, file.name == "__init__.py", sources)
        for name, file in sources.items()
    }
    assert not [sorted(circle) for circle in circles(imports)]


def test_the_direction_of_imports_is_held_without_exceptions():
    config = ConfigParser()
    config.read(ROOT / ".importlinter")
    assert not [
        (name, key) for name in config for key in config[name] if key in ("ignore_imports", "exhaustive_ignores")
    ]
    assert config["importlinter:contract:direction"]["exhaustive"] == "True"
    without = config["importlinter:contract:no-torch"]["source_modules"].split()
    assert {name.removesuffix(".py").replace("/", ".") for name in NO_TORCH} <= {
        module.removeprefix("videopolicy.") for module in without
    }


@pytest.mark.parametrize("package", NO_TORCH)
def test_a_process_without_a_model_loads_no_torch(package):
    place = ROOT / "src" / "videopolicy" / package
    files = sorted(place.rglob("[!_]*.py")) if place.is_dir() else [place]
    modules = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in files]
    assert modules
    script = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr or "torch was loaded"


# What many files define under one name: the entries of plug-ins, and of the command line's verbs.
ENTRIES = {"Command", *(kind.entry for kind in registry.KINDS.values())}


def doubled_classes(sources: list[str]) -> set[str]:
    """Names of classes that are defined more than once."""
    nodes = (node for source in sources for node in ast.walk(parsed(source)))
    times = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    return {name for name, count in times.items() if count > 1} - ENTRIES


def test_a_class_name_names_one_thing():
    assert doubled_classes(
        ["class A: pass\nclass Config: pass", "class B:\n    class A: pass\nclass Config: pass"]
    ) == {"A"}
    assert not doubled_classes([file.read_text(encoding="utf-8") for file in SOURCES])
