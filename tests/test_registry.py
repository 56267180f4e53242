import subprocess
import sys
from importlib import import_module

import pytest

from videopolicy import registry
from videopolicy.errors import UserError

PLUGINS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_has_a_package_and_a_plugin(kind):
    import_module(f"videopolicy.{registry.KINDS[kind].folder.replace('/', '.')}")
    assert registry.names(kind)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_an_entry_comes_from_the_file_of_its_name(kind, name):
    module = registry.module(kind, name)
    assert module.__name__.startswith("videopolicy.") and module.__name__.endswith(f".{name}")
    assert registry.entry(kind, name) is getattr(module, registry.KINDS[kind].entry)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_class_that_is_an_entry_tells_its_plugin(kind, name):
    entry = registry.entry(kind, name)
    assert not isinstance(entry, type) or registry.plugin_of(entry) == (kind, name)


def test_another_class_is_of_no_plugin():
    assert registry.plugin_of(int) is None and registry.plugin_of(registry.Kind) is None


@pytest.mark.parametrize("kind", registry.KINDS)
def test_an_unknown_name_lists_the_known_ones(kind):
    for find in (registry.entry, registry.module):
        with pytest.raises(UserError, match=f"no {registry.KINDS[kind].singular} 'nonesuch'") as error:
            find(kind, "nonesuch")
        for name in registry.names(kind):
            assert name in str(error.value)


def test_build_calls_the_entry_with_the_arguments():
    task = registry.module("envs", "pointmass").TASKS[0]
    assert registry.build("envs", "pointmass", task, size=32).size == 32


def test_looking_for_names_imports_no_plugin():
    script = (
        "import sys; from videopolicy import registry;"
        "[registry.names(kind) for kind in registry.KINDS];"
        "print([m for m in sys.modules if m.startswith('videopolicy.') and m.count('.') > 1])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("file", ["kitchen.py", "kitchen/__init__.py"])
@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def make(task): return task", True),
        ("class make: pass", True),
        ("make = other", True),
        ("from videopolicy.envs.base import make", False),
        ("def helper():\n    def make(): pass", False),
    ],
)
def test_a_plugin_defines_its_entry_at_the_top_of_its_file(tmp_path, monkeypatch, file, source, found):
    (tmp_path / "envs" / "kitchen").mkdir(parents=True)
    (tmp_path / "envs" / file).write_text(source, encoding="utf-8")
    (tmp_path / "envs" / "_hidden.py").write_text("def make(task): return task", encoding="utf-8")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert [name for name, _ in registry._own("envs")] == (["kitchen"] if found else [])
