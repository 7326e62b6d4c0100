"""Ctrl-C at moments when Python drops it."""

import signal

import pytest

from reelwright import interrupts


class Dropping:
    """Interrupted in `__del__`, where Python prints exceptions and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_at_the_next_check():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.catch_sigint():
        interrupts.check()
        dropped = Dropping()
        del dropped
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_is_raised_where_it_comes():
    with interrupts.catch_sigint(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    interrupts.check()


def test_sigterm_ends_a_command_like_ctrl_c_and_outlives_another_s_handler():
    with interrupts.catch_sigint():
        with interrupts.kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as ray.init sets its own
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert interrupts.exit_code() == 143
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_last_word_is_of_what_was_interrupted_and_only_then():
    with interrupts.catch_sigint():
        interrupts.leaves(interrupts.COMMITTED)
        assert interrupts.sentence() == ""
    with interrupts.catch_sigint():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.sentence() == "stopped"
        interrupts.leaves(interrupts.COMMITTED)
        assert interrupts.sentence() == f"stopped; {interrupts.COMMITTED}"


def test_where_interrupts_are_ignored_they_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.catch_sigint():
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted(times: int, done: list[str]) -> None:
    with interrupts.held():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        done.append("the end of the block")


def test_the_first_ctrl_c_waits_for_statements_that_belong_together_and_a_second_does_not():
    once: list[str] = []
    with interrupts.catch_sigint(), pytest.raises(KeyboardInterrupt):
        interrupted(1, once)
    twice: list[str] = []
    with interrupts.catch_sigint(), pytest.raises(KeyboardInterrupt):
        interrupted(2, twice)
    assert once
    assert not twice
