"""CSV and TSV as programs write them: quotes doubled or escaped by a backslash, or (in TSV) with no meaning at all."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from undo_hpc.data.tables import BadRow, EmptyFileError, ListTable, Table, require_different
from undo_hpc.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_CELL_LIMIT = 1 << 28  # the csv module refuses cells over 128 KiB by default; worked solutions may be longer
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass
class _Parsed:
    """The cells of each row with the line on which it starts; `error` is the line and the words of what stopped the reading."""

    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    error: tuple[int, str] | None = None

    @property
    def misfits(self) -> int:
        """Rows of another width than the header; a broken file misfits as a whole."""
        width = len(self.rows[0]) if self.rows else 0
        return sum(len(row) != width for row in self.rows) if self.error is None else 1 << 62

    @property
    def looks_quoted(self) -> bool:
        """Whether most cells with a quote stand between quotes."""
        cells = [cell for row in self.rows for cell in row if '"' in cell]
        return 2 * sum(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells) > len(cells)


def read_csv(path: Path, text: str, suffix: str) -> Table:
    """The rows of a CSV or TSV text with a header; a row of another width than the header is a BadRow.

    Raises:
        DataError: the quotes are broken (with the line), two columns have one name, or there are no rows.
    """
    csv.field_size_limit(_CELL_LIMIT)
    text, delimiter = _delimiter(text, suffix)
    parsed = _parse(text, delimiter)
    if delimiter == "\t" and '"' in text:
        plain = _parse(text, delimiter, quotes=False)
        if plain.misfits < parsed.misfits and not plain.looks_quoted:
            parsed = plain  # a quote is a character like others there
        elif not parsed.misfits and not plain.misfits and len(parsed.rows) != len(plain.rows):
            several = (
                line for row, line in zip(parsed.rows, parsed.lines, strict=True) if "\n" in "".join(row)
            )
            line = next(several, 1)
            raise DataError(
                f"{path} line {line}: the quotes can be read in two ways, as part of the text or around a cell of several lines",
                hint="write the file as JSONL, or without tabs and line ends inside the cells",
            )
    if parsed.misfits and '\\"' in text:
        escaped = _parse(_double_quotes(text), delimiter)
        parsed = escaped if escaped.misfits < parsed.misfits else parsed
    if parsed.error is not None:
        line, why = parsed.error
        raise DataError(
            f"{path} line {line}: invalid CSV: {why}",
            hint='check the quotes: a quote inside a quoted cell is written twice ("") or with a backslash (\\")',
        )
    header = [name.strip() for name in parsed.rows[0]]
    require_different(header, path)
    rows: list[dict[str, str] | BadRow] = [
        dict(zip(header, cells, strict=True))
        if len(cells) == len(header)
        else BadRow(f"the row has {len(cells)} cells, the header {len(header)}")
        for cells in parsed.rows[1:]
    ]
    if not rows:
        raise EmptyFileError(f"{path} has a header but no rows", hint="give a file with at least one row")
    return ListTable(path.name, header, rows, parsed.lines[1:])


def _delimiter(text: str, suffix: str) -> tuple[str, str]:
    """The text and the sign between its cells: as Excel's first line `sep=;` says, a tab in .tsv, else what splits the header most."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if (said := re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first)) and said[1] in _DELIMITERS:
        return text.replace(first, "", 1), said[1]
    if suffix == ".tsv" and "\t" in first:
        return text, "\t"
    return text, max(
        _DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign)))
    )  # of equals the comma


def _parse(text: str, delimiter: str, *, quotes: bool = True) -> _Parsed:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    found, start = _Parsed(), 1
    try:
        for cells in reader:
            if cells:
                found.rows.append(cells)
                found.lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        found.error = (reader.line_num, str(error))
    return found


def _double_quotes(text: str) -> str:
    r"""The text with `\"` as `""`. Where every backslash is escaped, too (`\\frac`), they are single again; else they stay (`\frac`)."""
    both = all(found[1] in '"\\' for found in _ESCAPE.finditer(text))
    if not both:
        return text.replace('\\"', '""')
    return _ESCAPE.sub(lambda found: '""' if found[1] == '"' else found[1], text)
