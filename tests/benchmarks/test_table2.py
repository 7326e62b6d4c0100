"""Table 2's model: what it counts, and that its rates come from the report's own rows."""

from dataclasses import replace

import pytest

from benchmarks.table2 import NETWORK, Calls, beyond, lines, report_rates, table


def test_a_call_counts_the_published_tokens():
    products, attention = Calls(1, 24, 480, 832).flops()
    assert attention == 48 * 4 * 37_440**2 * NETWORK.hidden_size
    assert products == pytest.approx(2 * 37_440 * 48 * (6 * 4096**2 + 3 * 4096 * 11008), rel=0.02)  # text, ends: 2 %


def test_rates_of_the_report_give_its_plain_rows_back():
    rates, rows = report_rates(), table()
    assert [row.total(rates) for row in rows[:4]] == pytest.approx([row.seconds for row in rows[:4]], rel=0.003)
    assert rates.products > rates.attention > 100
    assert "below" not in "".join(list(lines(rows, rates, rates))[2:6])


def test_ratios_do_not_depend_on_how_fast_a_machine_is():
    rates, rows = report_rates(), table()
    twice = replace(rates, **{name: 2 * rate for name, rate in vars(rates).items()})
    for row in rows:
        assert rows[0].total(twice) / row.total(twice) == pytest.approx(rows[0].total(rates) / row.total(rates))


def test_refinement_has_five_steps_of_published_sizes_and_sparse_ones_cost_their_share():
    rows = table(keep=1 / 8)
    dense, sparse = rows[6].calls[1], rows[7].calls[1]
    assert (dense.count, dense.latents, dense.height, dense.width) == (5, 48, 704, 1280)
    assert sparse.flops()[0] == dense.flops()[0]
    assert sparse.flops()[1] == pytest.approx(dense.flops()[1] / 8, rel=0.01)  # 2,640 blocks of keys, and 330 of them
    assert rows[6].calls[0].count == 16


def test_a_student_of_four_steps_costs_a_quarter_of_the_calls_and_all_of_the_refinement():
    rates, rows, more = report_rates(), table(), beyond()
    assert [row.calls[0].count for row in more] == [4] * 6
    pairs = zip(more, (rows[1], rows[3], *rows[4:]), strict=True)
    for ours, of_16 in pairs:
        first, *refined = ours.calls
        assert 4 * first.seconds(rates) == pytest.approx(of_16.calls[0].seconds(rates))
        assert refined == list(of_16.calls[1:])
        assert (ours.decoded, ours.encoded, ours.over) == (of_16.decoded, of_16.encoded, of_16.over)
    said = list(lines(rows + more, rates, rates))[2:]
    assert said[:8] == list(lines(rows, rates, rates))[2:]
    assert all(line.endswith("|  |  |  |") for line in said[8:]), "nothing of the report's to compare with"


def test_a_free_vae_reaches_what_the_last_column_says():
    rates, rows = report_rates(), table()
    line = list(lines(rows, rates, rates))[2:][7]
    needed = float(line.rstrip(" |").rpartition("|")[2])
    for vae, reached in ((needed * 1.02, True), (needed * 0.98, False)):
        assert ("below" not in list(lines(rows, replace(rates, vae=vae), rates))[9]) is reached


def test_ratios_of_operations_and_of_the_network_s_time_reach_those_of_the_report():
    """Dense refinement of 189 frames only just does: 784 PFLOP over 163 are 4.82, 1410.6 s over 297.0 4.750; 4.719."""
    rates, rows = report_rates(), table()
    for row in rows:
        base = next(of for of in rows if of.seconds == row.over)
        assert base.network_seconds(rates) / row.network_seconds(rates) >= row.over / row.seconds
        assert sum(base.flops()) / sum(row.flops()) >= row.over / row.seconds
    said = ["" if row.seconds == row.over else "reached" for row in rows]
    for column in (6, 9):
        assert [line.split(" | ")[column] for line in list(lines(rows, rates, rates))[2:]] == said
