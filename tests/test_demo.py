"""The demo, as a newcomer runs it; and that its tagger has learnt what the images show."""

import json
import re


def test_the_demo_goes_the_whole_way(run_tfr, tmp_path):
    finished = run_tfr("demo", "--num_images=200", "--epochs=25", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    for step in ("1. Draw", "2. Convert", "3. Train", "4. Evaluate", "5. Predict", "Next, on your own images"):
        assert step in finished.stdout
    assert re.search(r"rows read +207", finished.stdout)
    assert re.search(r"other rejected rows +3 \(empty 1, not_an_image 1, truncated 1\)", finished.stdout)
    metrics = json.loads((tmp_path / "tfr_demo" / "run" / "metrics.json").read_text())
    installed = "The pretrained weights are not installed" not in finished.stdout
    assert metrics["test"]["macro_map"] > (0.85 if installed else 0.3)
    (dataset,) = (tmp_path / "tfr_demo" / "data" / "shapes").iterdir()
    assert (dataset / "dataset_info.json").exists()


def test_the_demo_keeps_away_from_other_peoples_folders(run_tfr, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    finished = run_tfr("demo", f"--dir={tmp_path}")
    assert finished.returncode == 2
    assert "holds other files" in finished.stderr
