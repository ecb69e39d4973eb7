"""The choice between all threads and one, on a clock that the test turns."""

import numba
import pytest

from nbbp.kernels import threads


@pytest.mark.skipif(threads.most() < 2, reason="one thread")
def test_a_slow_neighbour_is_avoided_and_forgotten(monkeypatch):
    now, speed = [100.0], {}
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    ran: list[tuple[int, int]] = []

    def steps(most: int) -> int:
        ran.append((numba.get_num_threads(), most))
        now[0] += most * speed[numba.get_num_threads()]
        return most

    def share_of_one_thread(seconds: float) -> float:
        """Of the steps run in this time."""
        ran.clear()
        end = now[0] + seconds
        while now[0] < end:
            pace.run(steps)
        return sum(n for t, n in ran if t == 1) / sum(n for _, n in ran)

    everyone = threads.count()
    pace = threads.Pace(0.05)
    speed |= {everyone: 1e-4, 1: 1.6e-4}
    assert share_of_one_thread(5.0) < 0.01
    assert max(n for _, n in ran) == pytest.approx(500, rel=0.1)
    speed[everyone] = 8e-4  # a neighbour comes
    share_of_one_thread(1.0)
    assert share_of_one_thread(2.0) > 0.9
    speed[everyone] = 1e-4  # and goes
    share_of_one_thread(0.5)
    assert share_of_one_thread(2.0) < 0.02
    assert threads.count() == everyone
