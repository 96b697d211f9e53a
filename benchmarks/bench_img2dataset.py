"""The conversion against img2dataset, from the same list of local files to TFRecords, as ratios in one run.

    python benchmarks/bench_img2dataset.py --images=FOLDER_OF_JPEGS --count=4000 --img2dataset=VENV/bin/img2dataset

img2dataset wants a virtual environment of its own, with img2dataset, tensorflow-cpu and tensorflow-io (the last with
--no-deps: it is imported for its file systems, which local files do without). It reads file:// URLs with two processes
of eight threads; hashes and EXIF are off.

Each case is one command. What the same command takes for two images is subtracted: Python's, TensorFlow's and Beam's
start. tfr verifies every image by decoding it; img2dataset verifies those that it decodes, none without resizing.

  tfr, tfr_256                  images as they are; shorter side reduced to 256
  tfr_header                    as they are, without decoding them, which img2dataset does not do either
  img2dataset, img2dataset_256  the same: --disable_all_reencoding; --resize_mode=keep_ratio --image_size=256
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import peers

_FLAGS = {
    "tfr": [],
    "tfr_header": ["--check_images=header"],
    "tfr_256": ["--image_size=256"],
    "img2dataset": ["--resize_mode=no", "--disable_all_reencoding=True"],
    "img2dataset_256": ["--resize_mode=keep_ratio", "--image_size=256", "--resize_only_if_bigger=True"],
}


def _tfr_command(folder, paths):
    images = os.path.join(folder, "images")
    os.makedirs(images)
    table = os.path.join(folder, "rows.csv")
    with open(table, "w", encoding="utf-8") as file:
        file.write("image,label\n")
        for number, path in enumerate(paths):
            peers.link(path, f"{images}/{number:07d}.jpg")
            file.write(f"{number:07d}.jpg,x\n")
    return [sys.executable, "-m", "tfr", "convert", f"--annotations={table}", f"--images={images}", "--name=bench",
            f"--data_dir={folder}/data", "--splits=train=1", "--label_mode=multi"]  # fmt: skip


def _img2dataset_command(program, folder, paths):
    urls = os.path.join(folder, "urls.txt")
    with open(urls, "w", encoding="utf-8") as file:
        file.writelines(f"file://{path}\n" for path in paths)
    per_shard = max(1, len(paths) // 8)
    return [program, f"--url_list={urls}", "--input_format=txt", "--output_format=tfrecord",
            f"--output_folder={folder}/out", "--processes_count=2", "--thread_count=8", "--compute_hash=None",
            "--extract_exif=False", f"--number_sample_per_shard={per_shard}"]  # fmt: skip


def _clock():
    """Seconds of the clock on the wall, and of processor time of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _seconds(args, count):
    folder = tempfile.mkdtemp(prefix="bench-img2dataset-")
    paths = [os.path.abspath(path) for path in peers.jpeg_paths(args.images, count)]
    try:
        if args.case.startswith("tfr"):
            command = _tfr_command(folder, paths)
        else:
            command = _img2dataset_command(args.img2dataset, folder, paths)
        started = _clock()
        subprocess.run([*command, *_FLAGS[args.case]], check=True, capture_output=True)
        elapsed = [after - before for before, after in zip(started, _clock(), strict=True)]
        written = sum(os.path.getsize(path) for path in peers.files_below(folder) if ".tfrecord" in path)
        assert written > 1000 * count, f"only {written} bytes written"
        return elapsed
    finally:
        shutil.rmtree(folder)


def main():
    """Runs one case, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--img2dataset", required=True, help="the program, in its virtual environment")
    parser.add_argument("--cpu", type=int, default=0, help="1: images per second of processor time, for busy machines")
    parser.add_argument("--case", choices=list(_FLAGS))
    args = parser.parse_args()
    if args.case:
        (start, start_cpu), (seconds, cpu) = _seconds(args, 2), _seconds(args, args.count)
        peers.report_case(args.count, cpu - start_cpu if args.cpu else seconds - start)
        return
    options = {"images": args.images, "count": args.count, "img2dataset": args.img2dataset, "cpu": args.cpu}
    results = peers.in_turn(__file__, list(_FLAGS), args.repeats, **options)
    peers.print_table({case: results[case] for case in ("tfr_header", "tfr", "img2dataset")}, "tfr_header", "images/s")
    peers.print_table({case: results[case] for case in ("tfr_256", "img2dataset_256")}, "tfr_256", "images/s")


if __name__ == "__main__":
    main()
