"""The picture of a card: what is counted, and that the same counts are the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from corpusmith.released import RELEASES, Number
from corpusmith.score_picture import _REJECTED, _RELEASED, Counted, _bars, write_picture
from corpusmith.table_files import write_table
from corpusmith.tables import Column, Table

TENTHS = Number("score", "score", 0, 1, 10)
SCORES = Table("scores", Column("score", pa.float64(), "score", optional=True))


def counted(number: Number, *values: float) -> Counted:
    found = Counted(number)
    found.add(np.array(values))
    return found


def test_values_are_counted_in_the_bin_that_begins_at_or_below_them(tmp_path: Path) -> None:
    values = [0.0, 0.05, 0.1, 0.3, 0.7, 0.99, 1.0, -3.0, 7.0, None, float("nan")]
    half = len(values) // 2
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write_table(paths[0], SCORES, ({"score": value} for value in values[:half]))
    write_table(paths[1], SCORES, ({"score": value} for value in values[half:]))
    found = Counted.of(TENTHS, SCORES, paths)
    # What lies outside is in the first and in the last one.
    assert found.bins.tolist() == [3, 1, 0, 1, 0, 0, 0, 1, 0, 3]
    assert (found.count, found.missing) == (9, 2)
    assert found.mean == pytest.approx((0.05 + 0.1 + 0.3 + 0.7 + 0.99 + 1 - 3 + 7) / 9)


@pytest.mark.parametrize("recipe", RELEASES)
def test_a_value_at_an_edge_begins_its_bin(recipe: str) -> None:
    number = RELEASES[recipe].number
    edges = [number.lowest + place * (number.highest - number.lowest) / number.bins for place in range(number.bins)]
    assert counted(number, *(round(edge, 6) for edge in edges)).bins.tolist() == [1] * number.bins


@given(st.lists(st.floats(-1, 30), min_size=1))
def test_bars_lose_no_value_and_cover_what_there_is(values: list[float]) -> None:
    number = RELEASES["translation"].number
    edges, (shown,) = _bars(number, [counted(number, *values).bins])
    assert shown.sum() == len(values)
    assert len(edges) == len(shown) + 1 <= 51
    assert edges[0] == 0
    assert edges[-1] >= min(max(values), 25)
    assert (np.diff(edges) > 0).all()


def test_the_picture_shows_released_and_rejected_rows_in_two_colours(tmp_path: Path) -> None:
    released, rejected = counted(TENTHS, *[0.05] * 9), counted(TENTHS, *[0.95] * 5)
    assert write_picture(tmp_path / "both.png", TENTHS, released, rejected)
    assert write_picture(tmp_path / "one.png", TENTHS, released, Counted(TENTHS))
    assert write_picture(tmp_path / "narrow.png", TENTHS, released, counted(TENTHS, 0.15))

    def pixels(name: str, colour: str) -> np.ndarray:
        wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        image = np.round(imread(tmp_path / name)[:, :, :3] * 255)
        # Of the bars, not of the legend, which is above.
        return np.argwhere((np.abs(image - wanted) <= 2).all(axis=2))

    both = {colour: pixels("both.png", colour) for colour in (_RELEASED, _REJECTED)}
    assert all(len(found) > 100 for found in both.values())
    assert len(pixels("one.png", _REJECTED)) == 0
    # The bar of nine is left and higher than that of five, which is right.
    left = both[_RELEASED][both[_RELEASED][:, 1] < 300]
    right = both[_REJECTED][both[_REJECTED][:, 1] > 600]
    bottom, higher, lower = left[:, 0].max(), left[:, 0].min(), np.bincount(right[:, 0]).argmax()
    assert (bottom - lower) / (bottom - higher) == pytest.approx(5 / 9, abs=0.03)


def test_without_values_there_is_no_picture(tmp_path: Path) -> None:
    assert not write_picture(tmp_path / "none.png", TENTHS, Counted(TENTHS), counted(TENTHS, 0.5))
    assert list(tmp_path.iterdir()) == []
    assert Counted(TENTHS).mean is None


def test_the_picture_is_the_same_bytes_whatever_a_user_set_and_tells_no_version(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 20\naxes.facecolor: red\nbackend: svg\n")
    code = (
        "import sys; sys.path[:0] = sys.argv[2:];"
        "from pathlib import Path; from test_score_picture import *;"
        "write_picture(Path(sys.argv[1]), TENTHS, counted(TENTHS, 0.1, 0.2), counted(TENTHS, 0.9));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path / "a.png"), str(here), str(here.parent / "scripts")]
    subprocess.run(command, check=True, cwd=tmp_path)
    write_picture(tmp_path / "b.png", TENTHS, counted(TENTHS, 0.1, 0.2), counted(TENTHS, 0.9))
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert matplotlib.__version__.encode() not in content
    assert b"tEXt" not in content.replace(b"tEXtSoftware", b"tEXt") or b"Software" not in content
