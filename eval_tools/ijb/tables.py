"""The three text files of IJB-B and IJB-C: images with landmarks, images with templates, template pairs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval_tools.names import Names, composed
from eval_tools.on_bad import EXCLUDE, OnBad, check_on_bad
from eval_tools.scores import BoolArray, FloatArray, IntArray
from igfiqa_head.io.regular_files import regular

BLOCK_BYTES = 2**22
_NUM_COORDINATES = 10
_MAX_DIGITS = 18  # always fits int64
_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_SPACES = np.isin(np.arange(256), np.frombuffer(b" \t\r\n", np.uint8))


class BadLines:
    """What becomes of bad lines: the first one raises, or all are left out and counted.

    Raises:
        ValueError: ``on_bad`` is neither "error" nor "exclude".
    """

    def __init__(self, on_bad: OnBad) -> None:
        check_on_bad(on_bad)
        self._on_bad = on_bad
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, path: Path, first: str, problem: str, detail: str, count: int = 1) -> None:
        """``count`` lines of a file are bad.

        Args:
            path: the file.
            first: which is the first of them, such as "line 5".
            problem: what is wrong with all of them.
            detail: what the first one says.
            count: how many.

        Raises:
            ValueError: bad lines are errors.
        """
        if self._on_bad == "error":
            raise ValueError(
                f"{path}, {first}: {problem}, got {detail}. Correct the file, or leave such "
                f"lines out with {EXCLUDE}"
            )
        before, first = self._found.get((path.name, problem), (0, first))
        self._found[path.name, problem] = before + count, first

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each file and problem."""
        return tuple(
            f"{name}: {count} {'line' if count == 1 else 'lines'} left out, the first is {first}: {problem}."
            for (name, problem), (count, first) in self._found.items()
        )


@dataclass(frozen=True)
class ImageRows:
    """One row for each image of a template.

    Attributes:
        names: file names in ``loose_crop``.
        landmarks: float64 [N, 5, 2], (x, y) pixels.
        detector_score: float64 [N].
        template_ids: int64 [N].
        media_ids: int64 [N].
    """

    names: list[str]
    landmarks: FloatArray
    detector_score: FloatArray
    template_ids: IntArray
    media_ids: IntArray


def read_image_rows(points_path: Path, media_path: Path, present: Names, bad: BadLines) -> ImageRows:
    """Read ``*_name_5pts_score.txt`` and ``*_face_tid_mid.txt``, which describe the same images line by line.

    Args:
        points_path: lines ``name x1 y1 ... x5 y5 score``.
        media_path: lines ``name template media``.
        present: names of the image files that are there.
        bad: told about bad lines.

    Raises:
        ValueError: the files have different numbers of lines, or a line is bad and ``bad`` raises.
    """
    names: list[str] = []
    numbers, ids = array("d"), array("q")
    seen: set[tuple[str, int]] = set()
    for points_line, media_line in zip_longest(_lines(points_path), _lines(media_path)):
        if points_line is None or media_line is None:
            raise ValueError(
                f"{points_path} and {media_path} must describe the same images line by line, but the "
                f"{'first' if points_line is None else 'second'} one ends after {len(names)} of them"
            )
        try:
            name, values = _parse_points(points_path, points_line, present)
            template, media = _parse_media(media_path, media_line, name)
            if (name, template) in seen:
                raise _BadLineError(
                    media_path, media_line, "the image is listed twice for one template", ascii(name)
                )
        except _BadLineError as error:
            bad.add(error.path, f"line {error.number}", error.problem, error.detail)
            continue
        seen.add((name, template))
        names.append(name)
        numbers.extend(values)
        ids.extend((template, media))
    table = np.array(numbers).reshape(-1, _NUM_COORDINATES + 1)
    template_ids, media_ids = np.array(ids).reshape(-1, 2).T.copy()
    return ImageRows(names, table[:, :-1].reshape(-1, 5, 2), table[:, -1].copy(), template_ids, media_ids)


_Line = tuple[int, bytes]


class _BadLineError(Exception):
    def __init__(self, path: Path, line: _Line, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.path, self.number, self.problem = path, line[0], problem
        self.detail = detail or _shown(line[1])


def _shown(text: bytes) -> str:
    return ascii(text[:80].decode("latin-1").rstrip())


def _parse_points(path: Path, line: _Line, present: Names) -> tuple[str, list[float]]:
    name, *fields = line[1].split()
    try:
        values, text = [float(field) for field in fields], name.decode()
        if b"_" in b"".join(fields):
            raise ValueError("Python takes 1_0 for 10")
    except ValueError:
        raise _BadLineError(path, line, "expected 'name x1 y1 ... x5 y5 score'") from None
    if len(values) != _NUM_COORDINATES + 1:
        raise _BadLineError(path, line, "expected 12 columns 'name x1 y1 ... x5 y5 score'")
    if not all(map(math.isfinite, values)) or values[-1] < 0:
        raise _BadLineError(path, line, "coordinates must be finite and the detector score not negative")
    if text in (".", "..") or any(character in text for character in "/\\:\0"):
        raise _BadLineError(path, line, "the image name must be a plain file name in loose_crop", ascii(text))
    found = present.find(text)
    if found is None:
        raise _BadLineError(path, line, "the image is not in loose_crop", ascii(text))
    return found, values


def _parse_media(path: Path, line: _Line, name: str) -> tuple[int, int]:
    fields = line[1].split()
    if len(fields) != 3 or not all(field.isdigit() and len(field) <= _MAX_DIGITS for field in fields[1:]):
        raise _BadLineError(path, line, "expected 'name template media', the last two in digits")
    if composed(fields[0].decode("utf-8", "replace")) != composed(name):
        raise _BadLineError(path, line, "the same line of the landmark file names another image", ascii(name))
    return int(fields[1]), int(fields[2])


def read_template_pairs(
    path: Path, template_ids: IntArray, bad: BadLines, block_bytes: int = BLOCK_BYTES
) -> tuple[NDArray[np.int32], BoolArray]:
    """Read ``*_template_pair_label.txt``: lines ``template template label``, label 1 for one person.

    Whole blocks of lines are checked and converted at once, with memory for one block beside the result.

    Args:
        path: the file.
        template_ids: int64 [T], ascending, at least one.
        bad: told about bad lines and pairs.
        block_bytes: how much is read at a time.

    Returns:
        positions in ``template_ids`` int32 [P, 2], and whether a pair is genuine, bool [P].

    Raises:
        ValueError: a line is bad and ``bad`` raises, or one is longer than a block.
    """
    pairs, genuine = [], []
    for first_line, text in _line_blocks(path, block_bytes):
        lines, values = _integer_rows(path, first_line, text, bad)
        positions = np.searchsorted(template_ids, values[:, :2])
        known = (template_ids.take(positions, mode="clip") == values[:, :2]).all(axis=1)
        labelled = values[:, 2] <= 1
        _report(bad, path, lines, values, ~known, "a template has no images")
        _report(bad, path, lines, values, known & ~labelled, "the label must be 0 or 1")
        distinct = values[:, 0] != values[:, 1]
        _report(bad, path, lines, values, known & labelled & ~distinct, "a template is compared with itself")
        usable = known & labelled & distinct
        pairs.append(positions[usable].astype(np.int32))
        genuine.append(values[usable, 2].astype(bool))
    if not pairs:
        return np.empty((0, 2), np.int32), np.empty(0, np.bool_)
    return np.concatenate(pairs), np.concatenate(genuine)


def _report(
    bad: BadLines, path: Path, lines: IntArray, values: IntArray, wrong: BoolArray, problem: str
) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        detail = " ".join(map(str, values[first]))
        bad.add(path, f"line {lines[first]}", problem, repr(detail), int(np.count_nonzero(wrong)))


def _integer_rows(path: Path, first_line: int, text: bytes, bad: BadLines) -> tuple[IntArray, IntArray]:
    """Line numbers [R] and values [R, 3] of the lines that are three numbers; blank lines are skipped."""
    characters = np.frombuffer(text, np.uint8)
    is_digit, is_space = _DIGITS[characters], _SPACES[characters]
    starts = is_digit.copy()
    starts[1:] &= ~is_digit[:-1]
    ends = np.flatnonzero(characters == ord("\n"))
    line_starts = np.append(0, ends[:-1] + 1)
    num_numbers = np.add.reduceat(starts, line_starts, dtype=np.int64)
    is_foreign = np.logical_or.reduceat(~(is_digit | is_space), line_starts)
    is_row = (num_numbers == 3) & ~is_foreign
    if not is_row.all():
        wrong = np.flatnonzero(~is_row & ((num_numbers > 0) | is_foreign))
        if wrong.size:
            detail = _shown(text[line_starts[wrong[0]] : ends[wrong[0]]])
            problem = "expected 'template template label' in digits"
            bad.add(path, f"line {first_line + wrong[0]}", problem, detail, wrong.size)
        text = characters[np.repeat(is_row, ends - line_starts + 1)].tobytes()
    # Numbers too large for int64 become its largest value, which is no template's.
    values = np.fromstring(text, np.int64, sep=" ").reshape(-1, 3)
    return first_line + np.flatnonzero(is_row), values


def without_repeats(
    path: Path, template_ids: IntArray, pairs: NDArray[np.int32], is_genuine: BoolArray, bad: BadLines
) -> tuple[NDArray[np.int32], BoolArray]:
    """The pairs [P, 2] and their labels [P] without those that occur further up, in either order.

    Raises:
        ValueError: there are some and ``bad`` raises.
    """
    high = pairs.max(axis=1)
    keys = pairs.min(axis=1) * np.int64(high.max(initial=0) + 1) + high
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return pairs, is_genuine
    is_first = np.zeros(len(pairs), np.bool_)
    is_first[np.unique(keys, return_index=True)[1]] = True
    first, second = template_ids[pairs[np.argmin(is_first)]]
    problem = "two templates are compared more than once"
    count = int(np.count_nonzero(~is_first))
    bad.add(path, f"a pair of templates {first} and {second}", problem, "the pair again", count)
    return pairs[is_first], is_genuine[is_first]


def _lines(path: Path) -> Iterator[_Line]:
    """(number, content) of the lines that are not blank."""
    for first_line, text in _line_blocks(path, BLOCK_BYTES):
        for number, line in enumerate(text.split(b"\n"), first_line):
            if line.strip():
                yield number, line


def _line_blocks(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, whole lines each ended by a newline), about ``size`` bytes at a time."""
    number, rest = 1, b""
    with open(path, "rb", opener=regular) as file:
        while block := file.read(size):
            text = rest + block
            end = text.rfind(b"\n") + 1
            if not end and len(text) > size:
                raise ValueError(f"{path}, line {number}: longer than {size} bytes, so this is no such table")
            rest = text[end:]
            if end:
                yield number, text[:end]
                number += text.count(b"\n", 0, end)
    if rest:
        yield number, rest + b"\n"
