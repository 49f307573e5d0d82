"""The grammar of schema texts.

Input: a text such as `"id string not null, age bigint default 0, x tensor<float>(28, 28)"`. Output: its columns, or a
`SchemaError` that shows the text with a caret under the error and says what was expected there.

    schema  = column { "," column } [ "," ]
    column  = name type { "not null" | "null" | "default" literal }
    name    = letter or _, then letters, digits, _   |   "`" any characters, ` doubled "`"
    type    = scalar | "array" "<" scalar ">" | "array" "<" "array" "<" scalar ">" ">"
            | "tensor" "<" scalar ">" "(" n { "," n } ")" | "vector" "(" n ")"
    scalar  = word | "double" [ "precision" ] | "decimal" "(" p [ "," s ] ")" | ("time" | "timestamp") [ "(" unit ")" ]
            | ("char" | "varchar" | "binary" | "varbinary") [ "(" n ")" ]
    unit    = "s" | "ms" | "us" | "ns" | 0 | 3 | 6 | 9
    literal = number | "true" | "false" | "'" text, ' doubled "'"

Words are read in any case; column names keep theirs. `double exact`, an older name of `float64`, is read too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn

from beam_tfscript.data.column import Column
from beam_tfscript.data.kinds import SYNONYMS, UNITS
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.schema_literals import EXAMPLES, value_of_number, value_of_text
from beam_tfscript.errors import SchemaError

__all__ = ["parse_columns"]

_NAME = re.compile(r"[^\W\d]\w*")
_QUOTED_NAME = re.compile(r"`((?:[^`]|``)+)`")
_INTEGER = re.compile(r"\d+")
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|nan)(?!\w)", re.IGNORECASE)
_STRING = re.compile(r"'((?:[^']|'')*)'")
_SPACE = re.compile(r"\s*")

_TYPE_WORDS = (*SYNONYMS, "array", "tensor", "vector")
_SIZED_WORDS = ("char", "character", "varchar", "binary", "varbinary")
_FIXED_WORDS = ("char", "character", "binary")
_PRECISIONS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
# Arrow's widest decimal.
_MAX_DIGITS = 76
_SHOWN_CHARACTERS = 100


def parse_columns(text: str) -> tuple[Column, ...]:
    """Return the columns of a schema text.

    Args:
      text: the schema text; the module's docstring has its grammar.

    Raises:
      SchemaError: the text does not follow the grammar; the message points at the position.
    """
    if not isinstance(text, str):
        raise SchemaError(f"A schema must be a text such as 'id string, x float', got {text!r}.")
    return _Parser(text).columns()


class _Parser:
    """Recursive-descent parser, directly on the text, so that each error has its position."""

    def __init__(self, text: str):
        self._text = text
        self._at = 0
        self._skip_space()

    def columns(self) -> tuple[Column, ...]:
        columns = [self._column()]
        while not self._at_end():
            if not self._take(","):
                self._fail("expected ',' and the next column, 'not null', 'default' or the end")
            if self._at_end():
                break
            columns.append(self._column())
        return tuple(columns)

    def _column(self) -> Column:
        column = self._type(self._name())
        seen: set[str] = set()
        while word := self._option(seen):
            if word == "default":
                start = self._at
                column = self._with_default(column)
                self._check_default(column, start)
            else:
                column = replace(column, nullable=word == "null")
        if column.default is not None and not column.nullable:
            self._fail("a default is the value for null, so a column has either a default or 'not null'; leave one out")
        return column

    def _option(self, seen: set[str]) -> str | None:
        start = self._at
        word = "default" if self._word("default") else "null" if self._word("null") else None
        if word is None and self._word("not"):
            if not self._word("null"):
                self._fail("expected 'null' after 'not'")
            word = "not null"
        option = "default" if word == "default" else "null"
        if word is not None:
            if option in seen:
                self._fail(f"{word!r} comes after another such option", start)
            seen.add(option)
        return word

    def _name(self) -> str:
        if quoted := self._match(_QUOTED_NAME):
            return quoted[1].replace("``", "`")
        if plain := self._match(_NAME):
            return plain[0]
        self._fail("expected a column name (one with characters other than letters, digits and _ needs `back-ticks`)")

    def _type(self, name: str) -> Column:
        if self._word("array"):
            shape: tuple[int | None, ...] = (None,)
            self._expect("<")
            if self._word("array"):
                shape = (None, None)
                self._expect("<")
            column = self._scalar(name)
            for _ in shape:
                self._expect(">")
            return replace(column, shape=shape)
        if self._word("tensor"):
            self._expect("<")
            column = self._scalar(name)
            self._expect(">")
            return replace(column, shape=self._numbers("a dimension", low=1))
        if self._word("vector"):
            return Column(name, "float", shape=self._numbers("a length", low=1, at_most=1))
        return self._scalar(name)

    def _scalar(self, name: str) -> Column:
        start = self._at
        found = self._match(_NAME)
        word = found[0].lower() if found else ""
        if word in ("array", "tensor", "vector"):
            self._fail(
                f"expected a scalar type; {word!r} is not allowed here (arrays nest two deep, tensors do not)", start
            )
        if word not in SYNONYMS:
            self._fail(
                f"expected a type{near_names(word, _TYPE_WORDS) if word else ', such as string or bigint'}", start
            )
        kind = SYNONYMS[word]
        if kind == "double":
            kind = "float64" if self._word("exact") else kind
            self._word("precision")
        column = Column(name, kind)
        if kind == "decimal":
            return self._decimal(column)
        if kind in ("time", "timestamp"):
            return replace(column, unit=self._unit(kind))
        if word in _SIZED_WORDS:
            return self._sized(column, word)
        return column

    def _decimal(self, column: Column) -> Column:
        start = self._at
        digits = self._numbers("the number of digits", low=0, at_most=2)
        precision, scale = (*digits, 0)[:2]
        if not 1 <= precision <= _MAX_DIGITS or scale > precision:
            self._fail(f"expected (digits in all, digits after the point) with 1 to {_MAX_DIGITS} in all", start)
        return replace(column, precision=precision, scale=scale)

    def _unit(self, kind: str) -> str:
        if not self._take("("):
            return "us"
        start = self._at
        found = self._match(_NAME) or self._match(_INTEGER)
        text = found[0].lower() if found else ""
        unit = _PRECISIONS.get(int(text)) if text.isdecimal() else text
        if unit not in UNITS:
            self._fail("expected a unit, s, ms, us or ns, or its number of digits, 0, 3, 6 or 9", start)
        if kind == "time" and unit == "ns":
            self._fail("a time has s, ms or us, since Python's datetime.time holds no nanoseconds", start)
        self._expect(")")
        return unit

    def _sized(self, column: Column, word: str) -> Column:
        fixed = word in _FIXED_WORDS
        if self._text.startswith("(", self._at):
            return replace(column, length=self._numbers("a length", low=1, at_most=1)[0], fixed_length=fixed)
        # As in SQL, `char` alone is one character; `binary` alone is what most systems call `bytes`.
        return replace(column, length=1, fixed_length=True) if word.startswith("char") else column

    def _numbers(self, meaning: str, *, low: int, at_most: int = 32) -> tuple[int, ...]:
        """Read `(n, ...)`; `meaning` describes a number in messages."""
        self._expect("(")
        numbers: list[int] = []
        while not numbers or (len(numbers) < at_most and self._take(",")):
            start = self._at
            found = self._match(_INTEGER)
            if not found or int(found[0]) < low:
                self._fail(f"expected {meaning}, a whole number of at least {low}", start)
            numbers.append(int(found[0]))
        self._expect(")")
        return tuple(numbers)

    def _with_default(self, column: Column) -> Column:
        if not column.is_scalar:
            self._fail(f"{column.type} cannot have a default; only scalars can")
        start = self._at
        if text := self._match(_STRING):
            value = value_of_text(column, text[1].replace("''", "'"))
        elif number := self._match(_NUMBER):
            value = value_of_number(column, number[0])
        elif column.kind == "boolean" and self._word("true"):
            value = True
        elif column.kind == "boolean" and self._word("false"):
            value = False
        else:
            value = None
        if value is None:
            self._fail(f"expected a default for {column.type}, such as {EXAMPLES[column.kind]}", start)
        return replace(column, default=value)

    def _check_default(self, column: Column, start: int) -> None:
        from beam_tfscript.data.conversion_errors import ConversionError
        from beam_tfscript.data.to_arrow import values_to_arrow

        try:
            values_to_arrow([column.default], column)
        except ConversionError as error:
            raise SchemaError(self._message(f"the default does not fit {column.type}: {error}", start)) from error

    def _at_end(self) -> bool:
        return self._at == len(self._text)

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
            self._skip_space()
        return found

    def _word(self, word: str) -> bool:
        found = _NAME.match(self._text, self._at)
        return bool(found and found[0].lower() == word and self._match(_NAME))

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        self._skip_space()
        return True

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(f"expected {sign!r}")

    def _fail(self, expected: str, at: int | None = None) -> NoReturn:
        raise SchemaError(self._message(expected, self._at if at is None else at))

    def _message(self, expected: str, at: int) -> str:
        found = _NAME.match(self._text, at)
        got = "the end" if at >= len(self._text) else repr(found[0] if found else self._text[at])
        start = self._text.rfind("\n", 0, at) + 1
        end = self._text.find("\n", at)
        line = self._text[start : len(self._text) if end < 0 else end].replace("\t", " ")
        caret = at - start
        cut = max(0, caret - _SHOWN_CHARACTERS * 2 // 3)
        shown = ("..." if cut else "") + line[cut : cut + _SHOWN_CHARACTERS]
        caret = caret - cut + (3 if cut else 0)
        return f"Cannot read the schema: {expected.rstrip('.')}; got {got}:\n    {shown}\n    {' ' * caret}^"
