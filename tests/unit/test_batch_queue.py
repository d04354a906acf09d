"""The queue's policy: which entries form the next batch. Examples, and a state machine."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from reward_service.batching import BatchLimits, BatchQueue, Entry, Ticket, Unit
from tests.generated_cases import MULTIPLE

Queue = BatchQueue[str, int]
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

    assert (first.shared, second.shared, third.shared) == (0, 1, 1)
    assert queue.complete(entry, 7) == [first, second, third]
    assert [ticket.outcomes for ticket in (first, second, third)] == [[7], [7], [7]]
    assert queue.admit(units(3)).shared == 0


def test_closing_a_ticket_removes_only_entries_that_no_other_ticket_waits_for() -> None:
    queue = Queue()
    closed, other = queue.admit(units(1, 2, 3)), queue.admit(units(1))
    queue.close(closed)

    assert queue.waiting_items == 1
    [entry] = queue.take(ROOMY)
    assert queue.complete(entry, 5) == [other]
    assert queue.take(ROOMY) == []


class QueueMachine(RuleBasedStateMachine):
    """Any order of submissions, cancellations, batches and outcomes."""

    tickets = Bundle("tickets")
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.wanted: dict[Ticket[str, int], list[str]] = {}
        self.passed_over: dict[Ticket[str, int], int] = {}
        self.in_model: set[str] = set()

    @rule(target=tickets, keys=st.lists(st.integers(0, 12), min_size=1, max_size=8))
    def arrive(self, keys: list[int]) -> Ticket[str, int]:
        ticket = self.queue.admit([Unit(str(k), str(k), 1 + 7 * k) for k in keys])
        self.wanted[ticket] = [str(k) for k in keys]
        self.passed_over[ticket] = 0
        return ticket

    @rule(ticket=consumes(tickets))
    def leave(self, ticket: Ticket[str, int]) -> None:
        self.queue.close(ticket)
        self.wanted.pop(ticket, None)

    @rule(target=running, max_tokens=st.integers(1, 300), max_items=st.integers(1, 6))
    def batch(self, max_tokens: int, max_items: int) -> object:
        tickets = [t for t in self.wanted if any(e.waiting for e in t.entries)]
        batch = self.queue.take(BatchLimits(max_tokens, max_items))
        assert bool(batch) == bool(tickets)
        if not batch:
            return multiple()
        taken = keys(batch)
        assert not self.in_model & set(taken), "computed twice at the same time"
        assert len(set(taken)) == len(taken) <= max_items
        assert len(batch) == 1 or batch[-1].unit.n_tokens * len(batch) <= max_tokens
        assert batch == sorted(batch, key=lambda e: e.unit.n_tokens)
        assert all(entry.wanted for entry in batch), "no ticket waits for it"
        self.in_model |= set(taken)
        for ticket in tickets:
            served = set(taken) & set(self.wanted[ticket])
            self.passed_over[ticket] = 0 if served else self.passed_over[ticket] + 1
            assert self.passed_over[ticket] <= len(self.passed_over), "starved"
        return tuple(batch)

    @rule(batch=consumes(running))
    def finish(self, batch: tuple[Entry[str, int], ...]) -> None:
        for entry in batch:
            self.in_model.discard(entry.unit.value)
            for ticket in self.queue.complete(entry, int(entry.unit.value)):
                assert ticket.outcomes == [int(key) for key in self.wanted.pop(ticket)]

    @invariant()
    def counts_are_true(self) -> None:
        waiting = {key for t, ks in self.wanted.items() for e, key in zip(t.entries, ks, strict=True) if e.waiting}
        assert self.queue.waiting_items == len(waiting)
        assert self.queue.waiting_tokens == sum(1 + 7 * int(key) for key in waiting)

    def teardown(self) -> None:
        """All remaining tickets are served."""
        batches = []
        while batch := self.queue.take(ROOMY):
            batches.append(batch)
        for batch in batches:
            for entry in batch:
                self.queue.complete(entry, int(entry.unit.value))
        for ticket, ks in self.wanted.items():
            unfinished = [k for k, o in zip(ks, ticket.outcomes, strict=True) if o is None]
            assert set(unfinished) <= self.in_model


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150 * MULTIPLE, stateful_step_count=30, deadline=None)
