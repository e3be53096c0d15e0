"""What the pictures are drawn with: nothing repeats in a sweep, legends take no room from curves, cuts are said."""

import pytest
from makers import make_run

from dropact.report import collect
from dropact.report.figures import curves
from dropact.report.marks import PANEL, legend, style_of
from dropact.report.svg import canvas

RATES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


@pytest.fixture
def rows(tmp_path):
    make_run(tmp_path)
    for rate in RATES:
        make_run(tmp_path, method="drop-activation", options={"drop_prob": rate})
        make_run(tmp_path, method="dropout", options={"rate": rate})
    (table,) = collect(tmp_path).tables
    return table.rows


def test_a_sweep_has_a_colour_for_each_value_in_order_and_a_dash_for_each_method(rows):
    styles = {(row.method, *row.config.options.values()): style_of(row, rows) for row in rows}
    swept = [styles["drop-activation", rate]["color"] for rate in RATES]
    lightness = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue, _ in swept]
    assert lightness == sorted(set(lightness))
    assert [styles["dropout", rate]["color"] for rate in RATES] == swept
    looks = [(str(style["color"]), str(style["linestyle"]), style["marker"]) for style in styles.values()]
    assert len(set(looks)) == len(rows)
    assert len({str(style["linestyle"]) for style in styles.values()}) == 3


def axes_height(lines):
    with canvas(*PANEL) as figure:
        axes = figure.subplots()
        for number in range(lines):
            axes.plot([0, 1], [0, 1], label=f"a label of more than thirty letters, {number}")
        legend(figure)
        figure.draw_without_rendering()
        return axes.get_window_extent().height / figure.dpi


def test_a_long_legend_leaves_the_curves_their_height():
    assert axes_height(12) >= 0.95 * axes_height(2) > 1.5


@pytest.mark.parametrize(("first", "cut"), [(90.0, True), (6.0, False)])
def test_epochs_beyond_the_axis_are_said_to_be_cut(tmp_path, first, cut):
    make_run(tmp_path, errors=(first, 5.0, 4.0))
    (table,) = collect(tmp_path).tables
    assert ("↑ cut at 16" in curves(table, "test1", "test_error", "Test error")) == cut
