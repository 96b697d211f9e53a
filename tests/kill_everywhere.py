"""Kills a conversion right before each file operation in turn, and lets the same call go on; run by test_kill.py.

Modules are imported once and every conversion runs in a fork, so that a hundred of them take seconds.
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys

from tfr import conversion, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig

_OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def run(config: ConvertConfig, fatal: int = sys.maxsize) -> tuple[int, int]:
    """Converts in a process of its own, which is killed before its file operation number `fatal`.

    Returns:
      The signal that ended it (0: none), and its exit code.
    """
    pid = os.fork()
    if pid == 0:
        _kill_before(fatal, str(config.data_dir))
        try:
            conversion.convert(config)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    _, status = os.waitpid(pid, 0)
    return (os.WTERMSIG(status), 0) if os.WIFSIGNALED(status) else (0, os.WEXITSTATUS(status))


def _kill_before(fatal: int, folder: str) -> None:
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        is_write = event in _OPERATIONS or (event == "open" and args[1] and set("wax+") & set(args[1]))
        if is_write and isinstance(args[0], str) and folder in args[0]:
            seen += 1
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def contents(folder: pathlib.Path) -> dict[str, str]:
    """Every file below a folder by its path, as a digest; folders are told by the paths."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def main(root: pathlib.Path, overwrite: bool, step: int) -> None:
    """Prints how many file operations a conversion has; it was killed before each `step`-th of them.

    Fails where the result is not that of an undisturbed conversion, or finished shards were written again.
    """
    images, table = str(root / "images"), str(root / "annotations.csv")

    def make_config(data_dir: pathlib.Path, **changes) -> ConvertConfig:
        settings = {"read": ReadOptions(label_columns=("bird:dog",)), "split_ratios": splits.parse_ratios("train=1")}
        return ConvertConfig(
            annotations=table,
            images=images,
            data_dir=str(data_dir),
            name="pets",
            **{**settings, "num_shards": 3} | changes,
        )

    before = root / "before"
    if overwrite:  # another dataset, some of its shards with the names of the new one's
        assert run(make_config(before, split_seed=5)) == (0, 0)
    else:
        before.mkdir()
    undisturbed = root / "undisturbed"
    shutil.copytree(before, undisturbed)
    assert run(make_config(undisturbed, overwrite=overwrite)) == (0, 0)
    expected = contents(undisturbed)
    for fatal in range(1, 1000, step):
        data = root / "data"
        shutil.copytree(before, data)
        config = make_config(data, overwrite=overwrite)
        ended = run(config, fatal)
        if ended == (0, 0):
            print(json.dumps({"operations": fatal - 1}))
            return
        assert ended == (signal.SIGKILL, 0), (fatal, ended)
        whole = (data / "pets" / "1.0.0" / "dataset_info.json").exists()
        finished = {path: path.stat() for path in _finished_shards(data)}
        assert run(config) == (0, 0), fatal
        assert contents(data) == expected, (fatal, whole)
        for path, stat in finished.items():
            now = path.stat()
            assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), (fatal, path)
        shutil.rmtree(data)


def _finished_shards(data: pathlib.Path) -> list[pathlib.Path]:
    folder = data / "pets" / "1.0.0"
    if (folder / "dataset_info.json").exists() and not (folder / ".plan").exists():
        return []
    reports = [path.name.removesuffix(".report.json") for path in (folder / ".plan").glob("*.report.json")]
    return [folder / name for name in reports]


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2] == "overwrite", int(sys.argv[3]))
