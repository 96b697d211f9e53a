"""Ids that are repeated in a dataset, in little memory."""

import pytest

from tfr import id_ledger


@pytest.mark.parametrize("in_memory", [1 << 20, 7])
def test_the_ledger_finds_what_is_repeated_in_memory_and_on_disk(in_memory, monkeypatch):
    monkeypatch.setattr(id_ledger, "_IN_MEMORY", in_memory)
    places = {}
    with id_ledger.IdLedger() as ledger:
        for shard in range(5):
            ids = [f"id{(shard * 10 + i) % 43}" for i in range(10)]
            for number, id_ in enumerate(ids):
                places.setdefault(id_, []).append((shard, number))
            ledger.add(shard, id_ledger.digests(ids), range(10))
        found = sorted(ledger.repeats())
    assert found == sorted((first, again) for first, *others in places.values() for again in others)
    assert len(found) == 7
