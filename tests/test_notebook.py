"""The example notebook: committed without outputs, and run as a person would."""

import json
import pathlib

import pytest

NOTEBOOK = pathlib.Path(__file__).resolve().parent.parent / "examples" / "whole_way.ipynb"


def test_it_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]


_CONVERT_IN_IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance()
import tfr
print(tfr.convert(sys.argv[1], data_dir=sys.argv[2], name="pets", split_ratios="train=1").records_written)
"""


def test_conversions_run_in_ipython(run_python, write_photos, tmp_path):
    """Beam's own handling of notebooks fails with the pandas of today; see tfr.beam_in_notebooks."""
    folder = write_photos([f"{label}/{i}.jpg" for label in "ab" for i in range(3)])
    finished = run_python("-c", _CONVERT_IN_IPYTHON, folder, tmp_path / "data", cwd=tmp_path)
    assert finished.stdout.endswith("6\n"), finished.stderr


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "records written         302" in text
    assert float(text.partition("macro mAP ")[2].partition(",")[0]) > 0.5  # by chance it is about 0.3
    assert "truncated.jpg: truncated" in text
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # images, curves, explanation, the photograph
    assert "report.html" in outputs[-1]["data"]["text/html"]
