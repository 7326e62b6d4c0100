from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cost import Source, halves


def _source(number: int, frames: list[int]) -> Source:
    clips = [{"width": 4, "height": 2, "start_frame": 5, "end_frame": 5 + n} for n in frames]
    return Source(f"{number}.mp4", clips)


@given(st.lists(st.lists(st.integers(1, 300), max_size=4), max_size=12))
def test_the_floor_is_measured_in_halves_of_all_sources_that_differ_by_one_at_most(frames):
    sources = [_source(i, each) for i, each in enumerate(frames)]
    first, second = halves(sources)
    assert sorted(s.uri for s in first + second) == sorted(s.uri for s in sources)
    pixels = [sum(s.encoded_pixels for s in half) for half in (first, second)]
    assert abs(pixels[0] - pixels[1]) <= max((s.encoded_pixels for s in sources), default=0)
    assert sum(pixels) == 8 * sum(map(sum, frames))
