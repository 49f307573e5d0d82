"""Checker of prose: what a program can see of the rules for plain English in CONTRIBUTING.md.

    python -m tests.plain_english [PATH ...]    # files and folders; all of the project without any

It reads docstrings, comments and messages of Python files, and the text of Markdown files. It prints one line per
violation, and exits with status 1 if there is one.
"""

from __future__ import annotations

import ast
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
CHECKED = ("beam_tfscript", "benchmarks", "pipelines", "tests", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
# Old scripts of other platforms, which stand for themselves.
NOT_CHECKED = ("tests/scripts/", "tests/plain_english.py", "tests/test_plain_english.py", "pipelines/data/")

MAX_WORDS = 25
_QUESTION_WORDS = {"what", "how", "whether", "where", "which", "who", "whoever", "whatever", "why", "when"}
# Verbs that docstrings begin with; "Returns" is to be "Return".
_VERBS = pathlib.Path(__file__).with_name("plain_english_verbs.txt").read_text("utf-8").split()
_THIRD_PERSON = {
    (verb[:-1] + "ies") if verb.endswith("y") and verb[-2] not in "aeiou"
    else verb + "es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else verb + "s": verb
    for verb in _VERBS
} | {"has": "have", "is": "be"}  # fmt: skip
# Plurals of nouns that docstrings begin with as well.
_NOUNS = {
    "answers", "builds", "calls", "checks", "claims", "counts", "drops", "ends", "exports", "fits", "forms", "groups",
    "holds", "keys", "links", "lists", "locks", "logs", "maps", "marks", "masks", "names", "notes", "orders", "places",
    "plans", "points", "polls", "processes", "records", "reports", "results", "runs", "scripts", "shares", "slices",
    "starts", "states", "stops", "streams", "tests", "times", "totals", "types", "updates", "uses", "values", "views",
    "waits", "warnings", "writes", "reads", "retries", "tries", "rounds", "splits", "stages", "steps", "sums", "turns",
}  # fmt: skip

_UNITS = (
    r"(?:row|shard|window|bundle|batch|run|second|minute|machine|worker|task|column|key|process|record|frame|chunk"
    r"|value|file|test|call|model|harness|core|group|step|harness|subtask|slot|pane)"
)
_BANNED = [
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in [
        (r"\bto be had\b", "say that it is available, exists, or can be fetched"),
        (r"\bfor want of\b", "say 'without'"),
        (r"\bstumbl\w+ over\b", "say what fails"),
        (r"\bat hand\b", "name the thing"),
        (r"\bof (?:its|their|his) own making\b", "say who made it"),
        (r"\bmay well\b", "say 'may'"),
        (r"\bwho(?:so)?ever\b", "name the person or the process"),
        (r"\bwhatsoever\b", "leave it out"),
        (r"\bin vain\b", "say what fails"),
        (r"\b(?:its|their|his|the user's) own affair\b", "say who decides"),
        (r"\b(?:thereof|therein|whereupon|thereupon|hence|lest|albeit|forthwith|nought)\b", "use a plain word"),
        (r"\bit is looked\b", "say who looks"),
        (r"\bbe of no use\b", "say what it cannot do"),
        (r"\b(?:as good as|so much the better)\b", "say it plainly"),
        (
            r"\b(?:once|twice|times|bytes?|[kmg]i?b|rows?|seconds?|calls?|runs?|files?|models?|processes|threads?|ports?"
            r"|columns?|keys?|chunks?|frames?|one|µs|us|ms|s|thousands?|millions?|it|this|them)"
            rf" a {_UNITS}\b(?! (?:of|that|which|whose|is|has|with|in)\b)", "say 'per', as in 'per row'",
        ),
    ]
]  # fmt: skip


class Text(NamedTuple):
    """A piece of prose.

    Attributes:
      line: number of its first line, from 1.
      kind: `docstring`, `comment`, `message` or `markdown`.
      text: the prose; lines are separated by newlines.
      is_function: True for the docstring of a function or a method that is not a property.
    """

    line: int
    kind: str
    text: str
    is_function: bool = False


def find_violations(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, violation) for a file."""
    source = path.read_text("utf-8")
    texts = markdown_texts(source) if path.suffix == ".md" else python_texts(source)
    for text in texts:
        for violation in check(text):
            yield text.line, violation


def check(text: Text) -> Iterator[str]:
    """Yield the violations of one piece of prose."""
    first = re.match(r"\W*([A-Za-z]+)", text.text)
    word = first.group(1).lower() if first else ""
    if text.kind == "docstring":
        if word in _QUESTION_WORDS:
            yield f"the docstring starts with {first and first.group(1)!r}: start with a verb or with the thing's noun"
        if text.is_function and word in _THIRD_PERSON and word not in _NOUNS:
            yield f"the docstring starts with {first and first.group(1)!r}: say {_THIRD_PERSON[word].capitalize()!r}"
    joined = " ".join(text.text.split())
    for pattern, advice in _BANNED:
        for found in pattern.finditer(joined):
            yield f"{found.group(0)!r}: {advice}"
    if text.kind in ("docstring", "markdown"):
        for sentence in sentences(text.text):
            count = len([word for word in sentence.split() if re.search(r"\w", word)])
            if count > MAX_WORDS:
                yield f"a sentence of {count} words, {MAX_WORDS} at most: {' '.join(sentence.split()[:8])} …"


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of prose; code, tables, list markers and headings are left out."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        if re.match(r"( {4,}|\t|\s*[|#`<])", block):
            continue
        # An argument's name before its colon is not a part of the sentence.
        for part in re.split(r"\n(?=\s+[\w*, `]+: )", block):
            prose = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", part))
            yield from re.split(r"(?<=[.!?;:])\s+", prose)


def markdown_texts(source: str) -> Iterator[Text]:
    """Yield the paragraphs of a Markdown file, without its code blocks."""
    lines = source.splitlines()
    paragraph: list[str] = []
    begin, in_code = 1, False
    for number, line in enumerate([*lines, ""], 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
            line = ""
        if in_code or not line.strip() or line.lstrip().startswith("|"):
            if paragraph:
                yield Text(begin, "markdown", "\n".join(paragraph))
            paragraph = []
            if line.lstrip().startswith("|") and not in_code:
                yield Text(number, "table", line)
            continue
        if not paragraph:
            begin = number
        paragraph.append(line)


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings, the comments and the messages of a Python file."""
    tree = ast.parse(source)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                first = node.body[0]
                assert isinstance(first, ast.Expr)
                docstrings.add(id(first.value))
                is_function = not isinstance(node, (ast.Module, ast.ClassDef)) and not any(
                    "property" in ast.unparse(decorator) for decorator in node.decorator_list
                )
                yield Text(first.lineno, "docstring", docstring, is_function)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    for node in formatted:
        parts = [value.value if isinstance(value, ast.Constant) else "…" for value in node.values]
        yield Text(node.lineno, "message", "".join(map(str, parts)))
    seen = docstrings | {id(value) for node in formatted for value in node.values}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
        if is_text and id(node) not in seen:
            yield Text(node.lineno, "message", node.value)
    yield from _comments(source)


def _comments(source: str) -> Iterator[Text]:
    """Yield comments; those on lines that follow one another are one text."""
    begin, last, lines = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and lines:
            yield Text(begin, "comment", "\n".join(lines))
            lines = []
        if not lines:
            begin = token.start[0]
        last = token.start[0]
        lines.append(token.string.lstrip("# "))
    if lines:
        yield Text(begin, "comment", "\n".join(lines))


def checked_files(paths: list[str]) -> list[pathlib.Path]:
    """Return the files to check, below `paths` or all of the project."""
    found: list[pathlib.Path] = []
    for path in [pathlib.Path(path) for path in paths] or [ROOT / name for name in CHECKED]:
        below = sorted([*path.rglob("*.py"), *path.rglob("*.md")]) if path.is_dir() else [path]
        found += [file for file in below if not any(part in str(file.resolve()) for part in NOT_CHECKED)]
    return found


def main(arguments: list[str]) -> int:
    """Print the violations of files; return the exit status."""
    count = 0
    for path in checked_files(arguments):
        for line, violation in sorted(set(find_violations(path))):
            count += 1
            print(f"{path.resolve().relative_to(ROOT)}:{line}: {violation}")
    print(f"{count} violations" if count else "plain English: no violations", file=sys.stderr)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
