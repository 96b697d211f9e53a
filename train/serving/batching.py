"""Requests that come at the same time go through the network together."""

import asyncio
import concurrent.futures
import os
from typing import NamedTuple

import numpy as np

from ..tagger import Tagger

_DECODERS = max(2, os.cpu_count() or 2)


class OverloadedError(Exception):
    """More images wait than may."""


class _Waiting(NamedTuple):
    """Pixels of an image, and where its probabilities are to go."""

    pixels: np.ndarray
    answer: "asyncio.Future[np.ndarray]"


class Batcher:
    """Decodes images as they come and runs those that are ready as one batch. Lives in one event loop.

    While the network is busy with a batch, the next one gathers; an image that comes to an idle network waits
    `wait_secs` for others.

    Args:
      tagger: a loaded tagger.
      batch_size: images in a batch, at most.
      wait_secs: see above.
      max_waiting: images that are being worked on, at most.
    """

    def __init__(self, tagger: Tagger, *, batch_size: int, wait_secs: float, max_waiting: int):
        self._tagger, self._batch_size, self._wait_secs = tagger, batch_size, wait_secs
        self._max_waiting, self._num_waiting = max_waiting, 0
        self._decoders = concurrent.futures.ThreadPoolExecutor(_DECODERS, "decode")
        self._network = concurrent.futures.ThreadPoolExecutor(1, "network")
        self._ready: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.batch_sizes: dict[int, int] = {}  # size to how many batches of it there were

    async def probabilities(self, images: list[bytes]) -> list[np.ndarray | Exception]:
        """Probabilities, float32 (num_labels,), of each image, or the ImageRejectedError that says why there are none.

        Raises:
          OverloadedError: too many images wait already.
        """
        if self._num_waiting + len(images) > self._max_waiting:
            raise OverloadedError
        self._num_waiting += len(images)
        try:
            return await asyncio.gather(*map(self._one, images), return_exceptions=True)  # type: ignore[return-value]
        finally:
            self._num_waiting -= len(images)

    @property
    def max_waiting(self) -> int:
        """Images that may be worked on at a time."""
        return self._max_waiting

    async def _one(self, image: bytes) -> np.ndarray:
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._decoders, self._tagger.read_pixels, image)
        waiting = _Waiting(pixels, loop.create_future())
        self._ready.put_nowait(waiting)
        return await waiting.answer

    async def run(self) -> None:
        """Works until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            self.batch_sizes[len(batch)] = self.batch_sizes.get(len(batch), 0) + 1
            try:
                pixels = np.stack([waiting.pixels for waiting in batch])
                found, _ = await loop.run_in_executor(self._network, self._tagger.predict_pixels, pixels)
            except Exception as err:  # to each that waits; the next batch may do better
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(err)
                continue
            for waiting, values in zip(batch, found, strict=True):
                if not waiting.answer.done():  # who asked may have gone
                    waiting.answer.set_result(values)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._ready.get()]
        deadline = asyncio.get_running_loop().time() + self._wait_secs
        while len(batch) < self._batch_size:
            remaining = deadline - asyncio.get_running_loop().time()
            try:
                batch.append(
                    await asyncio.wait_for(self._ready.get(), max(remaining, 0))
                    if self._ready.empty()
                    else self._ready.get_nowait()
                )
            except TimeoutError:
                break
        return batch

    def close(self) -> None:
        """Ends the threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=False, cancel_futures=True)
