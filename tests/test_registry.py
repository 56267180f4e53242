import subprocess
import sys
from importlib import import_module

import pytest

from videopolicy import registry
from videopolicy.errors import UserError

PLUGINS = [(package, name) for package in registry.ENTRIES for name in registry.names(package)]


@pytest.mark.parametrize("package", registry.ENTRIES)
def test_every_package_of_plugins_exists_and_has_one(package):
    import_module(registry.module(package))
    assert registry.names(package)


@pytest.mark.parametrize(("package", "name"), PLUGINS)
def test_an_entry_comes_from_the_file_of_its_name(package, name):
    module = import_module(f"{registry.module(package)}.{name}")
    assert registry.entry(package, name) is getattr(module, registry.ENTRIES[package])


@pytest.mark.parametrize("package", registry.ENTRIES)
def test_an_unknown_name_lists_the_known_ones(package):
    with pytest.raises(UserError) as error:
        registry.entry(package, "nonesuch")
    for name in registry.names(package):
        assert name in str(error.value)


def test_build_calls_the_entry_with_the_arguments():
    task = import_module("videopolicy.envs.pointmass").TASKS[0]
    assert registry.build("envs", "pointmass", task, size=32).size == 32


def test_looking_for_names_imports_no_plugin():
    script = (
        "import sys; from videopolicy import registry;"
        "[registry.names(package) for package in registry.ENTRIES];"
        "print([m for m in sys.modules if m.startswith('videopolicy.') and m.count('.') > 1])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
def test_a_plugin_defines_its_entry_at_the_top_of_its_file(tmp_path, monkeypatch, source, found):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "kitchen.py").write_text(source)
    (tmp_path / "envs" / "_hidden.py").write_text("def make(task): return task")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert registry.names.__wrapped__("envs") == (("kitchen",) if found else ())
