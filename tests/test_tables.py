"""Tables and cells: the same rows whatever file they are in, and what cannot be used is named with its place."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.testing import assert_close

from geodesic import load_data
from geodesic.data.h5ad import densified
from geodesic.errors import DataError, InputError, MissingExtraError

HEADER, ROWS = "a,b,kind", ["1,2.5,T", "0,4,B", "3,1e2,T", "7,-1,NK"]


def csv_file(folder: Path, *lines: str) -> str:
    file = folder / "rows.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def parquet_file(folder: Path, **columns: list[object]) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), folder / "rows.parquet")
    return str(folder / "rows.parquet")


def whole(kind: str, path: str, **arguments: object) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All rows and labels, sorted by the first column."""
    data = load_data(kind, path=path, **arguments)
    values = torch.cat([data.train.values, data.test.values])
    order = values[:, 0].argsort()
    if data.train.labels is None or data.test.labels is None:
        return values[order], None
    return values[order], torch.cat([data.train.labels, data.test.labels])[order]


def test_a_table_has_a_row_for_each_line_and_words_are_classes_in_order(tmp_path: Path) -> None:
    values, labels = whole("csv", csv_file(tmp_path, HEADER, *ROWS), labels="kind")
    assert values.tolist() == [[0, 4], [1, 2.5], [3, 100], [7, -1]]
    assert labels is not None
    assert labels.tolist() == [0, 2, 2, 1]  # of B, NK, T


def test_parquet_and_csv_hold_the_same_rows(tmp_path: Path) -> None:
    kinds = ["T", "B", "T", "NK"]
    path = parquet_file(tmp_path, a=[1, 0, 3, 7], b=[2.5, 4.0, 100.0, -1.0], kind=kinds, __index_level_0__=kinds)
    found, expected = (
        whole("parquet", path, labels="kind"),
        whole("csv", csv_file(tmp_path, HEADER, *ROWS), labels="kind"),
    )
    assert_close(found[0], expected[0])
    assert found[1] is not None
    assert expected[1] is not None
    assert torch.equal(found[1], expected[1])


def test_names_of_rows_and_ignored_columns_are_left_out(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ",gene1,note", "cell0,3,x", "cell1,5,y")
    assert whole("csv", path, ignore=("note",))[0].tolist() == [[3], [5]]


def test_tabs_and_a_mark_of_byte_order_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("\ufeffa\tb\n1\t2\n3\t4\n")
    assert whole("csv", str(file), delimiter="\t")[0].tolist() == [[1, 2], [3, 4]]


def test_many_lines_are_one_table(tmp_path: Path) -> None:
    lines = [f"{k},{k % 3}" for k in range(2500)]
    values, labels = whole("csv", csv_file(tmp_path, "a,k", *lines), labels="k")
    assert torch.equal(values[:, 0], torch.arange(2500).float())
    assert labels is not None
    assert torch.equal(labels, torch.arange(2500) % 3)


@pytest.mark.parametrize(
    ("lines", "arguments", "match"),
    [
        ((HEADER, *ROWS), {}, r"the column 'kind' holds text, 'T' in row 0; name it in labels or ignore"),
        (("a,b", "1,2", "3,x"), {}, r"the column 'b' holds text, 'x' in row 1"),
        (("a,b", "1,", "3,4"), {}, r"1 values are missing .* the first in row 0, column 'b'; fill them in"),
        (("a,b", "1,NA", "inf,4"), {}, r"2 values are missing or not finite"),
        (("a,b", "1,2", "3"), {}, r"line 3 has 1 columns and the first line 2; check the line, and the delimiter, ','"),
        (("a,a", "1,2"), {}, "the column 'a' is there twice"),
        (("1,2", "3,4"), {}, "its first line holds numbers, '1', '2'; name the columns there"),
        (("a,b",), {}, "holds no numbers"),
        ((), {}, "holds no numbers"),
        (("a,k", "1,0.5", "2,1"), {"labels": "k"}, "the labels 'k' are no whole numbers, 0.5 in row 0"),
        (("a,k", "1,T", "2,"), {"labels": "k"}, "the label 'k' is missing in row 1"),
        (("a,b", "1,2"), {"labels": "kind"}, "has no column 'kind'; its columns are 'a', 'b'"),
        (("a,b", "1,2"), {}, "1 rows cannot be split"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, lines: tuple[str, ...], arguments: dict[str, object], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        load_data("csv", path=csv_file(tmp_path, *lines), **arguments)


def test_what_is_missing_in_parquet_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 values are missing .* row 1, column 'a'"):
        load_data("parquet", path=parquet_file(tmp_path, a=[1, None, 3]))
    with pytest.raises(DataError, match="the column 'when' holds text"):
        load_data("parquet", path=parquet_file(tmp_path, a=[1, 2], when=["x", "y"]))
    (tmp_path / "rows.parquet").write_text("no table")
    with pytest.raises(DataError, match="not readable as Parquet"):
        load_data("parquet", path=str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("kind", ["csv", "parquet", "h5ad"])
def test_a_file_that_is_not_there_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match="no such file; check the path"):
        load_data(kind, path="absent")


def test_arguments_of_tables_are_refused_by_name() -> None:
    for arguments, match in (
        ({"delimiter": ", "}, "delimiter: expected one character"),
        ({"ignore": ("a",), "labels": "a"}, "ignore: 'a' has the labels"),
    ):
        with pytest.raises(InputError, match=match):
            load_data("csv", path="x.csv", **arguments)


@pytest.mark.parametrize(("kind", "module", "extra"), [("parquet", "pyarrow", "parquet"), ("h5ad", "anndata", "scvi")])
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str, extra: str
) -> None:
    (tmp_path / "rows").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module} is not installed; it comes with the extra '{extra}': pip"):
        load_data(kind, path=str(tmp_path / "rows"))


# --- cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, np.asarray])
def test_a_matrix_becomes_dense_a_part_at_a_time(make: Callable[[np.ndarray], object]) -> None:
    dense = np.random.default_rng(0).poisson(0.2, (2500, 7))
    most = 0

    class Watched:
        shape = dense.shape

        def __getitem__(self, rows: slice) -> object:
            nonlocal most
            part = matrix[rows]
            most = max(most, part.shape[0])
            return part

    matrix = make(dense)
    names = tuple("abcdefg")
    assert_close(densified(Path("x"), Watched(), names), torch.from_numpy(dense).float())
    assert most <= 1024


def test_a_matrix_with_what_is_no_number_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match=r"1 values are missing .* row 1, column 'b'"):
        densified(Path("x"), np.array([[0.0, 1.0], [2.0, np.nan]]), ("a", "b"))
    with pytest.raises(DataError, match="holds 0 cells of 2 genes"):
        densified(Path("x"), np.empty((0, 2)), ("a", "b"))
