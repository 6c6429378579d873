"""Odd inputs of tools/reliability end as a result or as one line: a short form of ``make fuzz``.

The same generators and the same looks at results, with choices that hypothesis makes, the same at each run.
"""

import gc
import os
import signal
import time
from random import Random

import fuzz_child
import pytest
from fuzz import target_makers
from fuzz_child import CLEAR, RESULTS, generator, outcome_of, run_all
from fuzz_odd import Wrong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbones import UserError
from tools.make_demo_data import make_demo_data

COUNTS = {
    "checkpoints": 15,
    "images": 60,
    "masks": 40,
    "coco": 12,
    "panoptic": 6,
    "maps": 5,
    "own_data": 40,
    "options": 4,
    "api": 60,
    "forward": 5,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory, request):
    """The demo's data, few of each kind. The objects of earlier tests are no garbage: data sets collect garbage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        gc.freeze()
        yield make_demo_data(
            tmp_path_factory.mktemp("fuzz") / "data", num_train=2, num_val=2, digits_train=40, digits_val=4
        )
        gc.unfreeze()


@pytest.fixture
def target(root, tmp_path, request):
    return target_makers(tmp_path, root)[request.param]()


@pytest.mark.parametrize(("target", "count"), COUNTS.items(), indirect=["target"], ids=list(COUNTS))
def test_odd_inputs_end_in_a_result_or_in_one_line(target, count):
    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.randoms(use_true_random=False))
    def check(rng: Random):
        signal.alarm(60)  # an input may hang
        kind, detail = outcome_of(target, target.make(rng))
        assert kind in (RESULTS, CLEAR), detail

    before = signal.signal(signal.SIGALRM, took_too_long)
    try:
        check()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def took_too_long(number, frame):
    raise TimeoutError("an input took more than 60 s")


class Faulty:
    """A target whose inputs end in every way."""

    ways = ("result", "line", "lines", "error", "wrong", "crash", "exit")

    def make(self, rng):
        return rng.choice(self.ways)

    def run(self, way):
        if way == "line":
            raise UserError("one line")
        if way == "lines":
            raise UserError("")
        if way == "error":
            raise KeyError("x")
        if way == "wrong":
            raise Wrong("other pixels")
        if way == "crash":
            os.abort()
        if way == "exit":
            os._exit(3)


def test_every_end_of_an_input_is_seen_and_none_ends_the_parent():
    expected = {"result": "results", "line": "clear_errors", "lines": "tracebacks", "error": "tracebacks"}
    expected |= {"wrong": "wrong", "crash": "crashes", "exit": "crashes"}

    target = Faulty()
    found = list(run_all(target, "faulty", 0, 40, 7))
    assert [outcome.index for outcome in found] == list(range(40))
    ways = [target.make(generator(0, "faulty", i)) for i in range(40)]
    assert set(ways) == set(Faulty.ways)
    assert [outcome.kind for outcome in found] == [expected[way] for way in ways]


def test_an_input_that_hangs_is_seen(monkeypatch):
    class Slow:
        def make(self, rng):
            return 60

        def run(self, seconds):
            time.sleep(seconds)

    monkeypatch.setattr(fuzz_child, "SECONDS", 0.3)
    assert [outcome.kind for outcome in run_all(Slow(), "slow", 0, 2, 2)] == ["hangs", "hangs"]
