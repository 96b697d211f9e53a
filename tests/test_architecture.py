"""The import arrows of the packages, and the names by which they are imported."""

import ast
import os
import pathlib
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("tfr", "datasets", "train", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)

_OTHERS = ("tfr.datasets", "tfr.train")


def package_of(path):
    """The import name of the package that a source file lies in: train/commands/x.py -> tfr.train.commands."""
    parts = path.parent.parts
    return ".".join(parts if parts[0] == "tfr" else ("tfr", *parts))


def imports(path):
    """(module, whether the import is relative) of every import of a file; names imported from packages included."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package_of(path).split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            yield base, bool(node.level)
            yield from ((f"{base}.{alias.name}", bool(node.level)) for alias in node.names)


def is_in(module, *packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def offences(folder, is_wrong):
    return [
        f"{path}: {module}"
        for path in SOURCES
        if path.parts[0] == folder
        for module, is_relative in imports(path)
        if is_wrong(module, is_relative)
    ]


def test_the_sources_are_found():
    assert {path.parts[0] for path in SOURCES} >= {"tfr", "datasets", "train"}
    assert ("tfr.train.backbones", True) in set(imports(pathlib.Path("train/commands/train.py")))


@pytest.mark.parametrize("folder", ["tfr", "datasets", "train", "benchmarks"])
def test_packages_are_imported_by_their_installed_names(folder):
    assert not offences(folder, lambda module, is_relative: not is_relative and is_in(module, "datasets", "train"))


def test_tfr_imports_neither_datasets_nor_train():
    assert not offences("tfr", lambda module, _: is_in(module, *_OTHERS))


def test_tfr_names_the_others_only_in_the_tables_that_import_when_asked():
    """A name in a string could hide an import. There are two tables: the commands, and the lazy names of the top."""
    named = {
        str(path)
        for path in SOURCES
        if path.parts[0] == "tfr"
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_in(node.value, *_OTHERS)
    }
    assert named == {"tfr/__init__.py", "tfr/cli.py"}


def test_train_and_datasets_do_not_import_each_other():
    assert not offences("train", lambda module, _: is_in(module, "tfr.datasets"))
    assert not offences("datasets", lambda module, _: is_in(module, "tfr.train"))


def test_imports_inside_train_are_relative():
    assert not offences("train", lambda module, is_relative: not is_relative and is_in(module, "tfr.train"))


@pytest.mark.parametrize("folder", ["tfr", "datasets", "train"])
def test_nobody_imports_a_command(folder):
    assert not offences(folder, lambda module, _: is_in(module, "tfr.commands", "tfr.train.commands"))


def test_tfr_does_not_import_tensorflow():
    assert not offences("tfr", lambda module, _: is_in(module, "tensorflow", "keras"))


_CONVERT = """
import sys
import pandas as pd
from tfr import annotation_export, annotations, config, contact_sheet, conversion, dataset_dir, planning
from tfr import statistics_report, verification
from tfr.annotations import ReadOptions
images, data_dir = sys.argv[1:]
result = conversion.convert(
    config.ConvertConfig(annotations=images, data_dir=data_dir, name="pets", num_shards=2)
)
builder = dataset_dir.open_builder(result.dataset_dir)
dataset_dir.describe(builder)
assert contact_sheet.draw_split(builder, "train", 4, data_dir + "/sheet.png") == 4
assert not verification.verify(result.dataset_dir, num_workers=1).num_problems
statistics_report.make(result.dataset_dir, num_workers=1, samples_per_label=1).write_html(data_dir + "/page.html")
export = annotation_export.ExportConfig(dataset=result.dataset_dir, output=data_dir + "/export")
assert annotation_export.export(export).num_images
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""


def test_converting_and_looking_at_the_result_do_not_import_tensorflow(run_python, write_photos, tmp_path):
    folder = write_photos(
        [f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in "ab" for i in range(3)]
    )
    finished = run_python("-c", _CONVERT, folder, tmp_path / "data", cwd=tmp_path)
    assert finished.stdout == "[]\n", finished.stderr


# The four ways to have the package: uninstalled and editable here; from a wheel in .ci/run.

_WHERE = """
import importlib.util, sys
import tfr
from tfr import cli
for name in ("tfr", "tfr.cli", "tfr.datasets", "tfr.train"):
    print(importlib.import_module(name).__file__)
assert tfr.datasets is sys.modules["tfr.datasets"] and tfr.train is sys.modules["tfr.train"]
for path, _ in cli.COMMANDS.values():
    assert importlib.util.find_spec(path), path
"""
_FILES = [ROOT / "tfr/__init__.py", ROOT / "tfr/cli.py", ROOT / "datasets/__init__.py", ROOT / "train/__init__.py"]


def test_names_work_uninstalled_in_the_checkout(run_python):
    # Without `site` no editable installation is seen; the packages that we need come by PYTHONPATH.
    finished = run_python("-S", "-c", _WHERE, cwd=ROOT, env={"PYTHONPATH": sysconfig.get_path("purelib")})
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == [str(path) for path in _FILES]


def test_names_work_installed_anywhere(run_python, tmp_path):
    finished = run_python("-c", _WHERE, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert [os.path.basename(line) for line in finished.stdout.splitlines()] == [path.name for path in _FILES]


def test_an_installation_claims_no_other_projects_names(run_python, tmp_path):
    script = "import importlib.util as u; print([s and s.origin for s in map(u.find_spec, ('datasets', 'train'))])"
    assert str(ROOT) not in run_python("-c", script, cwd=tmp_path).stdout
