"""Ids are made ahead, and still none is ever given twice."""

from __future__ import annotations

import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_router.ids import fresh_id


def test_none_is_given_twice_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [
            one for some in pool.map(lambda _: [fresh_id() for _ in range(2500)], range(4)) for one in some
        ]
    assert len(set(found)) == 10_000
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)


def test_those_given_in_a_row_lie_in_few_places_of_an_index_and_differ_right_after() -> None:
    found = [fresh_id() for _ in range(2560)]
    begins = [one[:2] for one in found]
    assert sum(now != before for before, now in itertools.pairwise(begins)) <= 11
    assert len({one[2:6] for one in found}) > 2400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_does_not_give_those_of_its_parent() -> None:
    fresh_id()  # now there are some that were made ahead
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of forks beside threads; this child starts nothing
        child = os.fork()
    if child == 0:
        os.write(write, fresh_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    theirs = os.read(read, 100).decode()
    os.close(read)
    assert len(theirs) == 32
    assert theirs not in {fresh_id() for _ in range(600)}
