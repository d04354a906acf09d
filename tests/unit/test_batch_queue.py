"""The queue's policy: which entries form the next batch. Examples, and a state machine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from reward_service.batching import BatchLimits, BatchQueue, Entry, Submission, Unit
from tests.generated_cases import MULTIPLE, cases


class Queue(BatchQueue[str, int]):
    """With a method to queue the units of a request at once."""

    def admit(self, units: Sequence[Unit[str]], caller: str = "") -> Submission[int]:
        submission = self.new_submission(len(units), caller)
        self.add(submission, units)
        return submission


ROOMY = BatchLimits(max_tokens=10_000, max_items=100)


def units(*lengths: int, name: str = "") -> list[Unit[str]]:
    """Units of these lengths, with different keys."""
    return [Unit(f"{name}{i}", f"{name}{i}", length) for i, length in enumerate(lengths)]


def keys(batch: list[Entry[str, int]]) -> list[str]:
    return [entry.unit.value for entry in batch]


def test_a_batch_has_the_oldest_entry_and_its_neighbours_in_length() -> None:
    queue = Queue()
    queue.admit(units(10, 500, 11, 490, 9))

    assert keys(queue.take(BatchLimits(max_tokens=40, max_items=100))) == ["4", "0", "2"]
    assert keys(queue.take(BatchLimits(max_tokens=1000, max_items=100))) == ["3", "1"]
    assert queue.take(ROOMY) == []


def test_padded_tokens_and_items_are_bounded_but_a_single_item_always_runs() -> None:
    queue = Queue()
    queue.admit(units(5, 5, 5, 5))
    assert len(queue.take(BatchLimits(max_tokens=15, max_items=100))) == 3

    queue.admit(units(700, name="long"))
    limits = BatchLimits(max_tokens=15, max_items=1)
    assert [keys(queue.take(limits)) for _ in range(2)] == [["3"], ["long0"]]


def test_a_small_request_waits_for_one_batch_of_a_large_one_not_for_all() -> None:
    queue = Queue()
    queue.admit(units(*[100] * 50))
    queue.admit(units(10, name="small"))
    limits = BatchLimits(max_tokens=400, max_items=4)

    assert len(queue.take(limits)) == 4
    assert "small0" in keys(queue.take(limits))


def test_the_same_key_is_computed_once_while_it_waits_and_while_it_runs() -> None:
    queue = Queue()
    first = queue.admit(units(3))
    second = queue.admit(units(3))
    [entry] = queue.take(ROOMY)
    third = queue.admit(units(3))

    queue.complete(entry, 7)

    assert (first.shared, second.shared, third.shared) == (0, 1, 1)
    assert all(submission.finished.is_set() for submission in (first, second, third))
    assert [submission.outcomes for submission in (first, second, third)] == [[7], [7], [7]]
    assert queue.admit(units(3)).shared == 0


def test_closing_a_submission_removes_only_entries_that_no_other_one_waits_for() -> None:
    queue = Queue()
    closed, other = queue.admit(units(1, 2, 3)), queue.admit(units(1))
    closed.close()

    assert len(queue.waiting) == 1
    [entry] = queue.take(ROOMY)
    queue.complete(entry, 5)
    assert other.finished.is_set()
    assert not closed.finished.is_set()
    assert queue.take(ROOMY) == []


def test_a_closed_submission_is_forgotten_while_others_wait_for_its_units() -> None:
    queue, repeated = Queue(), units(1, 2) * 2
    other = queue.admit(units(1, 2))
    for _ in range(100):
        queue.admit(repeated).close()
    queued = queue.take(ROOMY)
    running = queue.admit(repeated)
    running.close()

    assert [list(entry.positions) for entry in queued] == [[other], [other]]
    for entry in queued:
        queue.complete(entry, 5)
    assert other.outcomes == [5, 5]
    assert running.missing == 4


# Callers -----------------------------------------------------------------------------------------------------


def served(caller: str, batch: list[Entry[str, int]]) -> int:
    """Tokens of `batch` that belong to `caller`, whose units have its name."""
    return sum(entry.unit.n_tokens for entry in batch if entry.unit.value.startswith(caller))


def test_a_small_caller_waits_for_one_batch_of_a_greedy_one_not_for_its_requests() -> None:
    queue = Queue()
    limits = BatchLimits(max_tokens=3200, max_items=32)
    for request in range(8):
        queue.admit(units(*[100] * 512, name=f"greedy {request} "), "greedy")
    for number in range(20):
        queue.take(limits)
        small = queue.admit(units(1 + 10 * number, name=f"small {number} "), "small")

        batches = [queue.take(limits), queue.take(limits)]

        assert any(served("small", batch) for batch in batches)
        small.close()


def test_callers_that_pause_after_each_batch_do_not_overtake_one_that_waits() -> None:
    queue, limits = Queue(), BatchLimits(max_tokens=400, max_items=8)
    queue.admit(units(*[40] * 2000, name="waiting"), "waiting")
    total = 0
    for round_ in range(100):
        for number in range(4):
            if not queue.callers.items.used(f"pausing {number}"):
                queue.admit(units(*[50] * 8, name=f"{number} in round {round_} "), f"pausing {number}")
        total += served("waiting", queue.take(limits))

    assert total >= 100 * 320 // 6


SIXTEEN = BatchLimits(max_tokens=1600, max_items=16)
"""Full batches have 16 entries of 100 tokens, short ones four."""


def sizes_of(queue: BatchQueue[str, int], n: int) -> list[int]:
    """Numbers of entries in the next `n` batches."""
    return [len(queue.take(SIXTEEN)) for _ in range(n)]


def test_batches_of_a_greedy_caller_are_short_while_a_small_one_is_expected_back() -> None:
    queue = Queue()
    queue.admit(units(*[100] * 1000, name="greedy"), "greedy")
    assert sizes_of(queue, 1) == [16]

    queue.admit(units(90, name="small"), "small")
    sizes = sizes_of(queue, 80)

    assert sizes[0] in {4, 16}, "of the newcomer, or of the one that came first"
    assert set(sizes[1:60]) == {4}
    assert sizes[-1] == 16


@pytest.mark.parametrize("lengths", [[100], [10], [10, 300, 40, 100], [399]])
def test_a_caller_with_little_work_waits_for_short_batches_of_another(lengths: list[int]) -> None:
    """From the second time on, at any moment: what runs when it comes, and its own batch, a quarter full each."""
    queue, limits = Queue(), SIXTEEN
    queue.admit(units(*lengths * 1000, name="greedy"), "greedy")
    queue.admit(units(90, name="small"), "small")
    while not served("small", queue.take(limits)):
        pass
    for number in range(20):
        running = [queue.take(limits) for _ in range(1 + number % 3)][-1]
        queue.admit(units(90, name=f"small {number}"), "small")
        own = queue.take(limits)

        assert served("small", own) == 90
        for batch in (running, own):
            assert len(batch) <= 8
            assert batch[-1].unit.n_tokens * len(batch) <= 400


def test_callers_that_all_have_much_to_do_get_full_batches_until_the_last_one_is_done() -> None:
    queue = Queue()
    for number in range(6):
        queue.admit(units(*[100] * 16 * (1 + number), name=f"{number}"), f"caller {number}")

    assert sizes_of(queue, 21) == [16] * 21


def test_a_caller_that_nobody_waits_beside_is_not_expected_back() -> None:
    """Health checks between the requests of the only caller; a request that is cancelled before it is served."""
    queue = Queue()
    for step in range(6):
        queue.admit(units(3, name=f"probe {step}"), "readiness")
        assert sizes_of(queue, 1) == [1]
        queue.admit(units(*[100] * 64, name=f"step {step}"), "trainer")
        queue.admit(units(90, name=f"cancelled {step}"), "other").close()

        assert sizes_of(queue, 4) == [16] * 4


def test_a_small_caller_is_expected_for_the_same_work_however_many_callers_wait() -> None:
    queue = Queue()
    for number in range(10):
        queue.admit(units(*[100] * 500, name=f"{number}"), f"greedy {number}")
    queue.admit(units(90, name="small"), "small")

    sizes = sizes_of(queue, 100)

    assert sizes.count(4) <= 66
    assert set(sizes[-20:]) == {16}


def test_callers_in_closed_loops_do_not_make_a_small_one_forgotten() -> None:
    queue = Queue()
    for step in range(2):
        for loop in ("one", "two", "three"):
            queue.admit(units(*[100] * 40, name=f"{loop} {step}"), loop)
        if step == 0:
            queue.admit(units(90, name="small"), "small")
            while not served("small", queue.take(SIXTEEN)):
                pass
        assert sizes_of(queue, 15) == [4] * 15
        while queue.waiting:
            sizes_of(queue, 1)


def test_a_caller_that_was_small_gets_full_batches_unless_another_small_one_is_expected() -> None:
    for others, size in (([], 16), (["other"], 4)):
        queue = Queue()
        queue.admit(units(*[100] * 400, name="greedy"), "greedy")
        for name in (*others, "small"):
            queue.admit(units(90, name=name), name)
            while not served(name, queue.take(SIXTEEN)):
                pass
        queue.admit(units(*[100] * 400, name="small"), "small")

        batches = [queue.take(SIXTEEN) for _ in range(10)]

        assert {len(batch) for batch in batches if served("small", batch)} == {size}


def test_callers_with_little_work_come_before_the_rest_of_one_with_much() -> None:
    queue = Queue()
    queue.admit(units(*[100] * 400, name="greedy"), "greedy")
    sizes_of(queue, 1)
    for number in range(10):
        queue.admit(units(100, name=f"small {number}"), f"caller {number}")
    while not (small := served("small", queue.take(SIXTEEN))):
        pass

    assert small == 1000


def test_many_callers_with_one_item_each_share_full_batches() -> None:
    queue = Queue()
    for number in range(64):
        queue.admit(units(100, name=f"{number} "), f"caller {number}")

    assert sizes_of(queue, 4) == [16] * 4


def test_a_caller_that_comes_back_is_next() -> None:
    queue, limits = Queue(), SIXTEEN
    queue.admit(units(*[100] * 1000, name="greedy"), "greedy")
    queue.admit(units(90, name="small"), "small")
    while not served("small", queue.take(limits)):
        pass
    for number in range(10):
        queue.take(limits)
        queue.admit(units(90, name=f"small {number}"), "small")

        assert served("small", queue.take(limits)) == 90


def test_room_in_a_batch_is_filled_also_with_entries_of_a_caller_that_is_ahead() -> None:
    queue = Queue()
    queue.admit(units(*[10] * 100, name="ahead"), "ahead")
    queue.admit(units(*[10] * 3, name="small"), "small")
    while served("small", queue.take(BatchLimits(max_tokens=100, max_items=10))):
        queue.admit(units(*[10] * 3, name="small"), "small")

    batch = queue.take(BatchLimits(max_tokens=200, max_items=20))

    assert (served("small", batch), len(batch)) == (30, 5)


def test_the_time_of_a_caller_is_its_work_in_turn_with_others_and_at_most_all_work() -> None:
    queue = Queue()
    for caller, lengths in {"short": [100], "long": [300, 300], "other": [200]}.items():
        queue.admit(units(*lengths, name=caller), caller)

    assert queue.callers.tokens_until_done("short") == 3 * 100
    assert queue.callers.tokens_until_done("long") == 900
    assert queue.callers.tokens_until_done("newcomer") == 0


def test_callers_that_send_little_share_their_batches() -> None:
    queue = Queue()
    for number in range(100):
        queue.admit(units(50 + number % 3, name=f"{number} "), f"caller {number}")

    sizes = []
    while batch := queue.take(BatchLimits(max_tokens=1_000_000, max_items=32)):
        sizes.append(len(batch))

    assert sizes == [32, 32, 32, 4]


def test_an_entry_of_two_callers_counts_for_both_and_remains_when_one_leaves() -> None:
    queue = Queue()
    one, two = queue.admit(units(10, 20), "one"), queue.admit(units(10), "two")
    assert (queue.callers.items.used("one"), queue.callers.items.used("two"), len(queue.waiting)) == (2, 1, 2)

    one.close()

    assert (queue.callers.items.used("one"), queue.callers.items.used("two"), len(queue.waiting)) == (0, 1, 1)
    [entry] = queue.take(ROOMY)
    queue.complete(entry, 3)
    assert two.outcomes == [3]
    assert queue.callers.items.total == len(queue.callers) == 0


def test_two_keys_of_one_sender_do_not_get_more_by_sending_the_same_texts() -> None:
    queue, limits = Queue(), BatchLimits(max_tokens=800, max_items=8)
    same = units(*[100] * 400, name="same")
    for caller in ("first key", "second key"):
        queue.admit(same, caller)
    queue.admit(units(*[100] * 400, name="other"), "other")

    shares = [served("other", queue.take(limits)) for _ in range(40)]

    assert sum(shares) >= 40 * 800 // 3


@given(
    lengths=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=2, max_size=2),
    max_items=st.integers(1, 12),
    max_tokens=st.integers(1, 400),
    late=st.integers(0, 5),
)
@cases(50)
def test_two_callers_that_always_wait_are_served_the_same_number_of_tokens(
    lengths: list[list[int]], max_items: int, max_tokens: int, late: int
) -> None:
    """Up to two batches and the longest entry, whatever lengths they send and in any order."""
    queue, limits = Queue(), BatchLimits(max_tokens, max_items)
    total = {"a": 0, "b": 0}
    for round_ in range(60 + late):
        for caller, pattern in zip(total, lengths, strict=True):
            if caller == "a" or round_ >= late:
                new = units(*pattern * (2 + 2 * max_items // len(pattern)), name=f"{caller} {round_} ")
                queue.admit(new, caller)
        batch = queue.take(limits)
        if round_ >= late:
            for caller in total:
                total[caller] += served(caller, batch)

    assert abs(total["a"] - total["b"]) <= 2 * max(max_tokens, 60) + 60


@given(
    backlogs=st.lists(st.tuples(st.integers(1, 80), st.integers(1, 60)), min_size=1, max_size=6),
    before=st.integers(0, 40),
    length=st.integers(1, 60),
    max_items=st.integers(1, 8),
)
@cases(150)
def test_a_newcomer_waits_at_most_one_batch_of_tokens_for_each_other_caller(
    backlogs: list[tuple[int, int]], before: int, length: int, max_items: int
) -> None:
    queue, limits = Queue(), BatchLimits(60 * max_items, max_items)
    for number, (count, tokens) in enumerate(backlogs):
        queue.admit(units(*[tokens] * count, name=f"{number} "), f"caller {number}")
    for _ in range(before):
        queue.take(limits)
    queue.admit(units(length, name="newcomer"), "newcomer")

    waited = 0
    while not served("newcomer", batch := queue.take(limits)):
        assert batch, "it was lost"
        waited += sum(entry.unit.n_tokens for entry in batch)

    assert waited <= len(backlogs) * 2 * limits.max_tokens


class QueueMachine(RuleBasedStateMachine):
    """Any order of submissions, cancellations, batches and outcomes, of several callers."""

    submissions = Bundle("submissions")
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.wanted: dict[Submission[int], list[str]] = {}
        self.in_model: set[str] = set()

    @rule(
        target=submissions,
        keys=st.lists(st.integers(0, 12), min_size=1, max_size=8),
        caller=st.sampled_from("abc"),
        part=st.integers(1, 8),
    )
    def arrive(self, keys: list[int], caller: str, part: int) -> Submission[int]:
        submission = self.queue.new_submission(len(keys), caller)
        new = [Unit(str(k), str(k), 1 + 7 * k) for k in keys]
        for start in range(0, len(new), part):
            self.queue.add(submission, new[start : start + part], start)
        self.wanted[submission] = [str(k) for k in keys]
        return submission

    @rule(submission=consumes(submissions))
    def leave(self, submission: Submission[int]) -> None:
        submission.close()
        submission.close()
        self.wanted.pop(submission, None)

    @rule(target=running, max_tokens=st.integers(1, 300), max_items=st.integers(1, 6))
    def batch(self, max_tokens: int, max_items: int) -> object:
        waiting = [s for s in self.wanted if any(e.waiting for e in s.entries)]
        batch = self.queue.take(BatchLimits(max_tokens, max_items))
        assert bool(batch) == bool(waiting)
        if not batch:
            return multiple()
        taken = keys(batch)
        assert not self.in_model & set(taken), "computed twice at the same time"
        assert len(set(taken)) == len(taken) <= max_items
        assert len(batch) == 1 or batch[-1].unit.n_tokens * len(batch) <= max_tokens
        assert batch == sorted(batch, key=lambda e: e.unit.n_tokens)
        assert all(self.in_demand(entry) for entry in batch), "no submission waits for it"
        self.in_model |= set(taken)
        return tuple(batch)

    def in_demand(self, entry: Entry[str, int]) -> bool:
        return any(entry.unit.value in ks for ks in self.wanted.values())

    @rule(batch=consumes(running))
    def finish(self, batch: tuple[Entry[str, int], ...]) -> None:
        for entry in batch:
            self.in_model.discard(entry.unit.value)
            self.queue.complete(entry, int(entry.unit.value))
        for submission in [s for s in self.wanted if s.finished.is_set()]:
            assert submission.outcomes == [int(key) for key in self.wanted.pop(submission)]

    @invariant()
    def counts_are_true(self) -> None:
        waiting: dict[str, set[str]] = {caller: set() for caller in "abc"}
        for submission, ks in self.wanted.items():
            entries = zip(submission.entries, dict.fromkeys(ks), strict=True)
            waiting[submission.caller] |= {key for entry, key in entries if entry.waiting}
        every = set().union(*waiting.values())
        assert len(self.queue.waiting) == len(every)
        assert self.queue.waiting_tokens == sum(1 + 7 * int(key) for key in every)
        assert len(self.queue.callers) == sum(map(bool, waiting.values()))
        for caller, own in waiting.items():
            assert self.queue.callers.items.used(caller) == len(own)
            assert self.queue.callers.find(caller).tokens == sum(1 + 7 * int(key) for key in own)

    def teardown(self) -> None:
        """All remaining submissions are served, each after a bounded number of batches."""
        batches = []
        while batch := self.queue.take(ROOMY):
            batches.append(batch)
        for batch in batches:
            for entry in batch:
                self.queue.complete(entry, int(entry.unit.value))
        for submission, ks in self.wanted.items():
            assert submission.finished.is_set() or set(ks) & self.in_model
        assert self.queue.callers.items.total == self.queue.waiting_tokens == 0


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150 * MULTIPLE, stateful_step_count=30, deadline=None)
