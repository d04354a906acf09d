"""The store of data sets: requests share rows, uploads do not wait for each other, and what is left is removed."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from reward_client.wire import ChatMessage, QueryType
from reward_service.datasets.disk import DiskThread
from reward_service.datasets.keys import prompt_key
from reward_service.datasets.store import DatasetStore
from reward_service.datasets.table import Dataset, StoredRow
from reward_service.errors import SlowDiskError, StorageError, UnknownDatasetError
from reward_service.scoring.job import ScorableItem
from reward_service.scoring.references import ReferenceLookup
from reward_service.settings import Settings
from tests.cost import assert_at_most
from tests.live import until

PROMPT = (ChatMessage(role="user", content="Why?"),)
ITEM = ScorableItem(PROMPT, "a b c", None, QueryType.OPEN_ENDED, "default")
CALLER = "key 1"


def store_in(folder: Path | None, **settings: int) -> DatasetStore:
    return DatasetStore(Settings(datasets_dir=folder, **settings), with_keys=True)


def published(store: DatasetStore, revision: str, *references: str) -> Dataset:
    writer = store.begin(CALLER, "train", "fail")
    writer.add(PROMPT, StoredRow(references, QueryType.CLOSED_ENDED, "given"), 1)
    store.publish(writer, revision, QueryType.CLOSED_ENDED)
    store.end(writer)
    return store.find(CALLER, "train")


@pytest.mark.parametrize("persistent", [False, True], ids=["memory", "folder"])
def test_items_with_the_same_prompt_share_the_texts_of_their_row(tmp_path: Path, persistent: bool) -> None:
    dataset = published(store_in(tmp_path if persistent else None), "one", "a" * 100_000, "b" * 100_000)
    tracemalloc.start()
    lookups = [ReferenceLookup(dataset, "fail", 100_000_000) for _ in range(2)]
    found = [lookup.complete(ITEM) for lookup in lookups for _ in range(100)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(found) == 200
    assert held < 1_000_000
    assert (dataset.info.hits, dataset.info.misses) == (200, 0)


def test_the_key_of_a_prompt_takes_time_in_proportion_to_its_marks() -> None:
    def key(n: int) -> object:
        return prompt_key((ChatMessage(role="user", content="a" + "\u0301" * n + "\u0323" * n),))

    assert_at_most(8, lambda: key(20_000), lambda: key(5_000))


def test_marks_in_two_orders_are_the_same_prompt() -> None:
    keys = {
        prompt_key((ChatMessage(role="user", content=f"a{marks}"),)) for marks in ("\u0301\u0323", "\u0323\u0301")
    }

    assert len(keys) == 1


def test_an_upload_that_nothing_refers_to_any_more_leaves_no_file(tmp_path: Path) -> None:
    store = store_in(tmp_path, max_datasets=1)
    store.begin(CALLER, "train", "fail")  # its request was cancelled before it had the writer
    gc.collect()

    assert not list(tmp_path.rglob("*.upload"))
    assert published(store, "one", "x").info.prompts == 1


class Awaited(Sequence[ChatMessage]):
    """The messages of a prompt, which can be read when `ready` is set."""

    def __init__(self) -> None:
        self.is_read, self.ready = Event(), Event()

    def __len__(self) -> int:
        return len(PROMPT)

    def __getitem__(self, index: Any) -> Any:
        self.is_read.set()
        assert self.ready.wait(60)
        return PROMPT[index]


def test_an_upload_does_not_wait_until_another_is_written() -> None:
    store, slow = store_in(None), Awaited()
    busy, other = (store.begin(CALLER, name, "fail") for name in ("busy", "other"))
    with ThreadPoolExecutor(2) as threads:
        written = threads.submit(busy.add, slow, StoredRow(("x",), QueryType.CLOSED_ENDED, "given"), 1)
        assert slow.is_read.wait(60)
        try:
            threads.submit(store.check_size, other).result(timeout=10)
            assert not written.done()
        finally:
            slow.ready.set()


def test_of_two_uploads_at_once_the_one_on_the_disk_is_found(tmp_path: Path) -> None:
    stores, both = [store_in(tmp_path), store_in(tmp_path)], Barrier(2)

    def upload(store: DatasetStore, revision: str) -> None:
        writer = store.begin(CALLER, "train", "fail")
        writer.add(PROMPT, StoredRow((revision,), QueryType.CLOSED_ENDED, "given"), 1)
        both.wait()
        store.publish(writer, revision, QueryType.CLOSED_ENDED)
        store.end(writer)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(30):
            list(threads.map(upload, stores, ("one", "two")))
            (path,) = tmp_path.rglob("*.sqlite")
            revision = Dataset.open(path).info.revision
            assert {store.find(CALLER, "train").info.revision for store in stores} == {revision}


def test_a_file_that_cannot_be_opened_in_time_is_an_error_and_later_calls_fail_at_once(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    published(store, "one", "a")
    pipe = tmp_path / "key-1" / "hanging.sqlite"
    os.mkfifo(pipe)  # to open it waits for a writer, as a file on a disk that does not answer
    with pytest.raises(SlowDiskError, match="did not answer within 1 s"):
        store.find(CALLER, "hanging")
    began = time.monotonic()
    for name in ("hanging", "train", "train"):
        with pytest.raises(SlowDiskError, match="did not answer"):
            store.find(CALLER, name)
    seconds = time.monotonic() - began
    with pipe.open("wb"):
        pipe.unlink()

    assert seconds < 1  # none of them waited for the disk
    until(lambda: _answers(store))
    with pytest.raises(UnknownDatasetError):
        store.find(CALLER, "hanging")
    assert store.find(CALLER, "train").info.name == "train"


def test_a_disk_that_works_slowly_answers_all_who_wait() -> None:
    disk = DiskThread(timeout_s=0.5)

    def read(number: int) -> int:
        time.sleep(0.05)
        return number

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: disk.call(lambda: read(number)), range(16)))

    assert answers == list(range(16))


def test_a_call_waits_for_others_as_long_as_it_says() -> None:
    disk, first, others = DiskThread(timeout_s=5), threading.Event(), threading.Event()

    def reads() -> None:
        first.set()
        others.wait(5)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(disk.call, reads)
        first.wait(5)
        with pytest.raises(SlowDiskError, match=r"within 0\.05 s"):
            disk.call(reads, max_wait_s=0.05)
        others.set()
        running.result(5)


def test_an_upload_that_ends_while_the_disk_does_not_answer_is_forgotten(tmp_path: Path) -> None:
    store = store_in(tmp_path, max_datasets=1)
    writer = store.begin(CALLER, "train", "fail")
    pipe = tmp_path / "key-1" / "hanging.sqlite"
    os.mkfifo(pipe)
    with pytest.raises(SlowDiskError):
        store.find(CALLER, "hanging")
    store.end(writer)
    with pipe.open("wb"):
        pipe.unlink()

    until(lambda: _answers(store))
    assert store.begin(CALLER, "other", "fail").name == "other"


def _answers(store: DatasetStore) -> bool:
    try:
        store.infos(CALLER)
    except StorageError:
        return False
    return True
