"""A file is a subject that is read in one sitting, a function what a screen holds."""

import ast
from pathlib import Path

BACKEND = Path(__file__).parent.parent / "flatlab"
SHOWN = {"lab", "figures", "papers", "pages", "stories"}  # what is drawn and told of it
FILES = [file for file in sorted(BACKEND.rglob("*.py")) if file.relative_to(BACKEND).parts[0] not in SHOWN]


def code_lines(node):
    """The lines of a class or function without its docstrings."""
    held = [one for one in ast.walk(node) if isinstance(one, (ast.ClassDef, ast.FunctionDef))]
    docs = [one.body[0] for one in held if ast.get_docstring(one) is not None]
    return node.end_lineno - node.lineno + 1 - sum(doc.end_lineno - doc.lineno + 1 for doc in docs)


def test_no_file_is_longer_than_300_lines_and_no_function_than_50():
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert code_lines(node) <= 50, (file, node.name)


def test_modules_import_each_other_in_one_style():
    for file in BACKEND.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            absolute = (
                isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("flatlab")
            )
            assert not absolute, (file, f"line {node.lineno}: write `from .x import y`, as everywhere in the package")


def test_a_method_of_the_zoo_takes_at_most_45_lines():
    for file in (BACKEND / "zoo").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                assert code_lines(node) <= 45, (file, node.name)
