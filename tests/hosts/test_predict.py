"""What is loaded before anybody asks: what never leaves, then what spares most, while there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.worlds import host, host_down

from llm_router.hosts.load import QUIET, HostLoad, ModelLoad, missing_gb
from llm_router.hosts.predict import LEAST_ANSWERS, Wanted, to_preload
from llm_router.hosts.snapshot import HostSnapshot, ResidentModel

EMBEDDER = Wanted("embedder:latest", 1.0, 3.0, kept=True)
OFTEN = Wanted("often:latest", 20.0, 9.0, answers=60)
LARGE = Wanted("large:latest", 50.0, 24.0, answers=20)
RARE = Wanted("rare:latest", 10.0, 7.0, answers=LEAST_ANSWERS - 1)


def box(*resident: tuple[str, float]) -> HostSnapshot:
    return host(resident=[ResidentModel(name, round(gb * 1e9)) for name, gb in resident])


def test_what_never_leaves_goes_first_then_what_spares_most_per_gb() -> None:
    wanted = [LARGE, RARE, OFTEN, EMBEDDER]
    assert to_preload(box(), QUIET, wanted, 112.0) == (EMBEDDER.name, OFTEN.name, LARGE.name)


def test_nobody_has_to_leave_for_it_by_ollamas_rule() -> None:
    # 112 - 30 - 1 = 81 GB are free: 20 of them fit; then 61 are, of which large would take 82 %.
    found = to_preload(box(("other:latest", 30.0)), QUIET, [LARGE, OFTEN, EMBEDDER], 112.0)
    assert found == (EMBEDDER.name, OFTEN.name)


def test_what_is_there_is_not_loaded_and_what_is_asked_for_once_in_a_while_is_not_either() -> None:
    assert to_preload(box((OFTEN.name, 20.0)), QUIET, [OFTEN, RARE], 112.0) == ()


def test_no_more_than_the_host_holds_at_once() -> None:
    assert to_preload(box(), QUIET, [LARGE, OFTEN, EMBEDDER], 112.0, most=2) == (EMBEDDER.name, OFTEN.name)
    assert to_preload(box(("a", 1.0), ("b", 1.0)), QUIET, [OFTEN], 112.0, most=2) == ()


def test_nothing_while_anything_goes_on_or_where_nobody_answers() -> None:
    busy = HostLoad(models={OFTEN.name: ModelLoad(1, 3.0)})
    assert to_preload(box(), busy, [OFTEN], 112.0) == ()
    assert to_preload(box(), HostLoad(loading="x"), [OFTEN], 112.0) == ()
    assert to_preload(host_down(), QUIET, [OFTEN], 112.0) == ()


@given(
    st.lists(
        st.builds(
            Wanted,
            name=st.text("abcdef", min_size=1, max_size=3),
            memory_gb=st.floats(0.1, 90.0),
            load_s=st.floats(0.1, 60.0),
            answers=st.integers(0, 50),
            kept=st.booleans(),
        ),
        max_size=8,
        unique_by=lambda one: one.name,
    ),
    st.floats(0.0, 80.0).map(lambda gb: round(gb, 3)),
)
def test_each_fits_beside_those_before_it(wanted: list[Wanted], there_gb: float) -> None:
    names = {one.name: one for one in wanted}
    filled_gb = there_gb
    for name in to_preload(box(("there:latest", there_gb)), QUIET, wanted, 112.0):
        assert missing_gb(names[name].memory_gb, filled_gb, 112.0) <= 1e-6
        filled_gb += names[name].memory_gb
