"""Builds pages of the documentation from the code, the guides and README.

    python docs/generate.py          # writes methods.md, which git tracks
    python docs/generate.py --run    # runs the guides, and keeps their outputs

`mkdocs build` runs this file as a hook: it writes the API reference, and the
guides as pages and as notebooks, into folders that git ignores. Nothing here
imports the library.
"""

import argparse
import ast
import dataclasses
import functools
import hashlib
import html
import inspect
import json
import os
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = "keras_debias"
REPOSITORY = "https://github.com/keras-debias/keras-debias/blob/main/"
GUIDES = sorted((ROOT / "guides").glob("*.py"))
# Guides in the order in which to read them; others follow.
FIRST_GUIDES = ("getting_started", "audit_your_data", "measure_robustness")
OUTPUTS = DOCS / "guides" / "outputs"  # what `--run` keeps
# Files of the repository that become pages.
COPIES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "keras_debias/training/README.md": "training_step.md",
}
# Methods that users call and a base class defines.
INHERITED = {
    "DebiasedModel": (
        *("compile", "fit", "evaluate", "predict", "generate"),
        *("save", "save_weights", "load_weights", "export"),
        *("train_on_batch", "test_on_batch", "predict_on_batch"),
        *("regularizers", "separate_passes"),
    ),
}


# The public symbols, read from the source.


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A public name: where users find it, and where it is defined."""

    room: str  # "adapters", or "" for the package itself
    name: str
    path: str  # dotted path of the definition
    doc: str
    is_module: bool = False
    stem: str = ""  # of the page, where `name` differs in its case only

    @property
    def public_name(self) -> str:
        return ".".join(filter(None, ["kd", self.room, self.name]))

    @property
    def page(self) -> str:
        """Path of the API page in the documentation."""
        return posixpath.join("api", self.room, f"{self.stem or self.name}.md")

    @property
    def source(self) -> str:
        """Path of the defining file in the repository."""
        module = self.path if self.is_module else self.path.rpartition(".")[0]
        return _file(module).relative_to(ROOT).as_posix()

    @property
    def summary(self) -> str:
        return self.doc.partition("\n")[0]

    @property
    def reference(self) -> str:
        """The first sentence of the `Reference:` section, or nothing."""
        section = re.search(
            r"^Reference:\n+((?:[ -].*\n?|\n)*)", self.doc, re.MULTILINE
        )
        if section is None:
            return ""
        text = " ".join(section[1].split()).removeprefix("- ")
        text = text.replace("]( ", "](")
        return re.split(r"(?<=\.) (?=[A-Z(])| - ", text)[0].rstrip(".")


def _file(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _tree(module):
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _public_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return []


def _resolve(module, name):
    """Follows imports to `(dotted path, docstring, is_module)`."""
    previous = None
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name != (alias.asname or alias.name):
                    continue
                if node.module == module:  # a module of this package
                    dotted = f"{module}.{name}"
                    return dotted, ast.get_docstring(_tree(dotted)) or "", True
                return _resolve(node.module, alias.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            if node.name == name:
                return f"{module}.{name}", ast.get_docstring(node) or "", False
        elif isinstance(node, ast.Assign):
            previous = node
        elif isinstance(node, ast.Expr) and previous is not None:
            target = previous.targets[0]
            if isinstance(target, ast.Name) and target.id == name:
                text = inspect.cleandoc(ast.literal_eval(node.value))
                return f"{module}.{name}", text, False
            previous = None
    return f"{module}.{name}", "", False


def rooms() -> dict[str, str]:
    """The public modules of the package, and the first line of each."""
    found = {}
    for name in _public_names(_tree(PACKAGE)):
        _, doc, is_module = _resolve(PACKAGE, name)
        if is_module:
            found[name] = doc.partition("\n")[0]
    return found


def symbols() -> list[Symbol]:
    """Every public symbol, those of the package itself first."""
    found = []
    modules = rooms()
    for name in _public_names(_tree(PACKAGE)):
        if name not in modules and name != "__version__":
            found.append(Symbol("", name, *_resolve(PACKAGE, name)))
    for room in modules:
        module = f"{PACKAGE}.{room}"
        for name in _public_names(_tree(module)):
            found.append(Symbol(room, name, *_resolve(module, name)))
    return _with_stems(found)


def _with_stems(found):
    """`Drift` and `drift` must not share a file where case is ignored."""
    seen, result = set(), []
    for symbol in found:
        key = (symbol.room, symbol.name.lower())
        if key in seen:
            stem = f"{symbol.name}-function"
            symbol = dataclasses.replace(symbol, stem=stem)
        seen.add(key)
        result.append(symbol)
    return result


# The pages.


def _cell(text):
    """Escapes vertical bars, for GitHub's tables and those of the site."""

    def code(match):
        escaped = html.escape(match[1]).replace("|", "&#124;")
        return f"<code>{escaped}</code>"

    text = re.sub(r"`([^`]*\|[^`]*)`", code, text)
    return text.replace("|", "&#124;")


def methods_page() -> str:
    """The text of `methods.md`: a table for each room."""
    lines = [
        "# Methods",
        "",
        "All public classes and functions, with the first line of their",
        "documentation and their source. `kd` stands for `keras_debias`. This",
        "page is written by `python docs/generate.py`.",
    ]
    known = symbols()
    chapters = {"": "The entry points."} | rooms()
    for room, doc in chapters.items():
        title = f"`kd.{room}`".replace(".`", "`")
        lines += ["", f"## {title}", "", doc, ""]
        lines += ["| name | what it does | reference |", "| --- | --- | --- |"]
        lines += [
            f"| [`{s.name}`](../{s.source}) | {_cell(s.summary)} | "
            f"{_cell(s.reference)} |"
            for s in known
            if s.room == room
        ]
    return "\n".join(lines) + "\n"


def api_pages() -> dict[str, str]:
    """The API reference: a page a symbol, and a list for each room."""
    pages = {}
    known = symbols()
    for symbol in known:
        text = f"# `{symbol.public_name}`\n\n::: {symbol.path}\n"
        if symbol.name in INHERITED:
            members = ", ".join(INHERITED[symbol.name])
            text += f"    options:\n      inherited_members: [{members}]\n"
        pages[symbol.page] = text
    titles = {"": "API reference"} | {room: f"`kd.{room}`" for room in rooms()}
    for room, title in titles.items():
        text = f"# {title}\n\n{rooms().get(room, '')}\n\n"
        if not room:
            text += "".join(
                f"- [`kd.{other}`]({other}/index.md): {doc}\n"
                for other, doc in rooms().items()
            )
            text += "\n"
        text += "| name | what it does |\n| --- | --- |\n"
        text += "".join(
            f"| [`{s.name}`]({posixpath.basename(s.page)}) | "
            f"{_cell(s.summary)} |\n"
            for s in known
            if s.room == room
        )
        pages[posixpath.join("api", room, "index.md")] = text
    return pages


def guide_cells(source: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Splits a guide into its header and its `("markdown"|"code", text)`."""
    lines = source.splitlines()
    cells, start = [], 0
    for node in ast.parse(source).body:
        text = isinstance(node, ast.Expr) and isinstance(
            node.value, ast.Constant
        )
        if text and isinstance(node.value.value, str):
            code = "\n".join(lines[start : node.lineno - 1]).strip()
            cells += [("code", code)] if code else []
            cells.append(("markdown", node.value.value.strip()))
            start = node.end_lineno
    code = "\n".join(lines[start:]).strip()
    cells += [("code", code)] if code else []
    header = dict(line.split(": ", 1) for line in cells[0][1].splitlines())
    return header, cells[1:]


def _kept_outputs(source, name):
    """The outputs of each cell, if they were kept for this very source."""
    path = OUTPUTS / f"{name}.json"
    if not path.is_file():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    same = kept["source"] == hashlib.sha256(source.encode()).hexdigest()
    return {int(i): text for i, text in kept["cells"].items()} if same else {}


def guide_page(source: str, name: str, outputs=()) -> str:
    """A guide as a Markdown page."""
    header, cells = guide_cells(source)
    outputs = dict(outputs)
    parts = [
        f"# {header['Title']}",
        header["Description"],
        f"[Notebook]({name}.ipynb) · [Source](../../guides/{name}.py)",
    ]
    for i, (kind, text) in enumerate(cells):
        parts.append(text if kind == "markdown" else f"```python\n{text}\n```")
        if outputs.get(i, "").strip():
            parts.append(f"```text\n{outputs[i].rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def guide_notebook(source: str, outputs=()) -> dict:
    """A guide as a Jupyter notebook, format 4.5."""
    header, cells = guide_cells(source)
    outputs = dict(outputs)
    title = f"# {header['Title']}\n\n{header['Description']}"
    made = []
    for i, (kind, text) in enumerate([("markdown", title), *cells], -1):
        cell = {
            "cell_type": kind,
            "id": f"cell-{i + 1}",
            "metadata": {},
            "source": text.splitlines(keepends=True),
        }
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
            if outputs.get(i):
                stream = {"output_type": "stream", "name": "stdout"}
                stream["text"] = outputs[i].splitlines(keepends=True)
                cell["outputs"].append(stream)
        made.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3"}
    kernel["language"] = "python"
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


_RUNNER = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
import generate
source = open(sys.argv[2], encoding="utf-8").read()
scope, outputs = {"__name__": "__main__"}, {}
for i, (kind, text) in enumerate(generate.guide_cells(source)[1]):
    if kind == "code":
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, f"cell {i}", "exec"), scope)
        outputs[i] = out.getvalue()
json.dump(outputs, open(sys.argv[3], "w", encoding="utf-8"))
"""


def run_guide(path: pathlib.Path) -> None:
    """Runs a guide in a process of its own, and keeps what it prints."""
    source = path.read_text(encoding="utf-8")
    if _kept_outputs(source, path.stem):
        return
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder) / "outputs.json"
        subprocess.run(
            [sys.executable, "-c", _RUNNER, DOCS, path, result],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
            check=True,
        )
        cells = json.loads(result.read_text(encoding="utf-8"))
    digest = hashlib.sha256(source.encode()).hexdigest()
    _write(
        OUTPUTS / f"{path.stem}.json",
        json.dumps({"source": digest, "cells": cells}, indent=1),
    )


def guide_files() -> dict[str, str]:
    """All guides, as pages and as notebooks."""
    files = {}
    for path in GUIDES:
        source = path.read_text(encoding="utf-8")
        outputs = _kept_outputs(source, path.stem)
        name = f"guides/{path.stem}"
        files[f"{name}.md"] = guide_page(source, path.stem, outputs)
        files[f"{name}.ipynb"] = json.dumps(
            guide_notebook(source, outputs), indent=1
        )
    return files


# Links: those of the repository become those of the site.


@functools.cache
def _site_targets():
    """From files of the repository to pages of the site."""
    targets = dict(COPIES)
    targets |= {f"guides/{p.stem}.py": f"guides/{p.stem}.md" for p in GUIDES}
    targets["guides"] = f"guides/{FIRST_GUIDES[0]}.md"
    for symbol in reversed(symbols()):
        targets[symbol.source] = symbol.page
    return targets


_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def site_links(text: str, origin: str, page: str) -> str:
    """Rewrites the relative links of a file for its page in the site.

    Args:
        text: string, Markdown.
        origin: string, path of the file that the text is from, from the root
            of the repository.
        page: string, path of its page in the documentation.
    """
    targets = _site_targets()

    def rewrite(match):
        link, anchor = match[1], match[2] or ""
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(origin), link)
        )
        if path.startswith("docs/"):
            target = path.removeprefix("docs/")
        elif path.endswith(".png"):
            target = f"images/{posixpath.basename(path)}"
        elif path in targets:
            target = targets[path]
        else:
            return f"]({REPOSITORY}{path}{anchor})"
        target = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"]({target}{anchor})"

    return _LINK.sub(rewrite, text)


# The hooks of mkdocs.


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def on_config(config):
    """Adds the generated pages to the navigation."""
    known = symbols()
    api = [{"Overview": "api/index.md"}]
    api += [{s.public_name: s.page} for s in known if not s.room]
    for room in rooms():
        pages = [f"api/{room}/index.md"]
        pages += [{s.name: s.page} for s in known if s.room == room]
        api.append({f"kd.{room}": pages})
    names = [*FIRST_GUIDES, *(p.stem for p in GUIDES)]
    guides = [f"guides/{name}.md" for name in dict.fromkeys(names)]
    generated = {"API reference": api, "Guides": guides}
    for entry in config["nav"]:
        for title in entry:
            entry[title] = generated.get(title, entry[title])


def on_pre_build(config):
    """Writes the pages that git does not track."""
    _tree.cache_clear()  # `mkdocs serve` builds many times
    _site_targets.cache_clear()
    for folder in ("api", "images"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)
    for page, text in (api_pages() | guide_files()).items():
        _write(DOCS / page, text)
    for origin, page in COPIES.items():
        text = (ROOT / origin).read_text(encoding="utf-8")
        _write(DOCS / page, site_links(text, origin, page))
    (DOCS / "images").mkdir(exist_ok=True)
    for path in (ROOT / "examples").glob("*.png"):
        shutil.copy(path, DOCS / "images")


def on_page_markdown(markdown, page, config, files):
    """Points links that leave the documentation to the repository."""
    path = page.file.src_uri
    if path in COPIES.values() or path.startswith("api/"):
        return markdown
    return site_links(markdown, f"docs/{path}", path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--run", action="store_true", help="run the guides, too"
    )
    options = parser.parse_args(arguments)
    _write(DOCS / "methods.md", methods_page())
    if options.run:
        for path in GUIDES:
            print(f"running {path.name}", flush=True)
            run_guide(path)


if __name__ == "__main__":
    main()
