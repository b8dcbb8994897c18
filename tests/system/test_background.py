"""Work in the background: in order, never much of it, and no error is lost."""

import time

import pytest

from ccdiff.system.background import Background


def fail() -> None:
    raise OSError("the disk is full")


def test_work_is_done_in_order_and_all_of_it():
    done = []
    with Background() as background:
        for i in range(50):
            background(lambda i=i: done.append(i))
    assert done == list(range(50))


def test_who_is_too_quick_waits():
    given, done, waiting = [], [], []

    def work() -> None:
        time.sleep(0.01)
        waiting.append(len(given) - len(done))
        done.append(None)

    with Background() as background:
        for _ in range(30):
            background(work)
            given.append(None)
    assert len(done) == 30
    assert max(waiting) <= 5


def test_an_error_is_raised_on_leaving():
    with pytest.raises(OSError, match="the disk is full"), Background() as background:
        background(fail)


def test_an_error_is_raised_by_a_later_call():
    calls = []

    def go_on() -> None:
        with Background() as background:
            for i in range(50):
                background(fail)
                calls.append(i)

    with pytest.raises(OSError, match="the disk is full"):
        go_on()
    assert len(calls) < 10


def test_an_error_of_the_caller_comes_first():
    def go_wrong() -> None:
        with Background() as background:
            background(fail)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        go_wrong()
    assert "the disk is full" in caught.value.__notes__[0]
