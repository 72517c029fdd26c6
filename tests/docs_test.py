"""The documentation: complete, up to date, and with links that hold."""

import ast
import importlib.util
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest

import keras_debias as kd

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate():
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["generate"]


def public_objects():
    """Names and objects as Python sees them, without reading the source."""
    found = {}
    for name in kd.__all__:
        value = getattr(kd, name)
        if not inspect.ismodule(value):
            found["kd." + name] = value
            continue
        for member in value.__all__:
            found[f"kd.{name}.{member}"] = getattr(value, member)
    del found["kd.__version__"]
    return found


def test_every_public_symbol_has_a_page(generate):
    pages = generate.api_pages()
    symbols = {s.public_name: s for s in generate.symbols()}
    assert set(symbols) == set(public_objects())
    for name, symbol in symbols.items():
        assert f"`{name}`" in pages[symbol.page]
    files = [page.lower() for page in pages]
    assert len(set(files)) == len(files), "names that differ in case only"


def test_symbols_are_documented_where_they_are_defined(generate):
    objects = public_objects()
    for symbol in generate.symbols():
        value = objects[symbol.public_name]
        assert symbol.summary, f"{symbol.public_name} has no documentation"
        if inspect.ismodule(value):
            assert symbol.path == value.__name__
        elif inspect.isclass(value) or inspect.isfunction(value):
            assert symbol.path == f"{value.__module__}.{value.__qualname__}"
            assert symbol.doc == inspect.getdoc(value)


def test_methods_page_is_up_to_date(generate):
    path = ROOT / "docs" / "methods.md"
    assert path.read_text(encoding="utf-8") == generate.methods_page(), (
        "Run `python docs/generate.py`."
    )


def code_of(source):
    """A program without its top-level texts, as a tree."""
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not isinstance(getattr(node, "value", None), ast.Constant)
        or not isinstance(node, ast.Expr)
    ]
    return ast.dump(tree)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "guides").glob("*.py")), ids=lambda path: path.stem
)
def test_notebook_has_the_code_and_prose_of_its_guide(generate, path):
    source = path.read_text(encoding="utf-8")
    notebook = json.loads(json.dumps(generate.guide_notebook(source)))
    code = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    assert code_of("\n".join(code)) == code_of(source)
    page = generate.guide_page(source, path.stem)
    for node in ast.parse(source).body[1:]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            assert node.value.value.strip() in page


def test_outputs_follow_the_cell_that_printed_them(generate):
    source = (
        '"""\nTitle: T\nDescription: D\n"""\n\nprint(1)\n\n"""\nText.\n"""\n'
    )
    page = generate.guide_page(source, "name", {0: "1\n"})
    assert page.index("print(1)") < page.index("```text\n1\n```")
    assert page.index("```text\n1\n```") < page.index("Text.")
    (cell,) = generate.guide_notebook(source, {0: "1\n"})["cells"][1:2]
    assert cell["outputs"][0]["text"] == ["1\n"]


def markdown_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:  # no repository: an unpacked archive
        return [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
    names = [n for n in listed.stdout.splitlines() if n.endswith(".md")]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def without_code(text):
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda m: m[0].replace("](", ""), text)


def anchors(path):
    """The anchors that GitHub makes of the headings."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {heading.replace(" ", "-") for heading in kept}


def broken_links(path):
    text = without_code(path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        other = (path.parent / target) if target else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            yield f"{path.relative_to(ROOT)}: {link}"


def test_relative_links_hold():
    files = markdown_files()
    assert ROOT / "README.md" in files and len(files) > 15
    assert [link for path in files for link in broken_links(path)] == []


def test_broken_links_are_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b.c` title\n[1](page.md) [2](#a-bc-title) [3](gone.md)"
        " [4](page.md#gone) [5](https://example.org/gone) `[6](gone)`\n"
        "```\n[7](gone)\n```\n"
    )
    assert [x.split(": ")[1] for x in broken_links(page)] == [
        "gone.md",
        "page.md#gone",
    ]


def test_links_of_the_site_go_to_its_pages(generate):
    def links(text, origin, page):
        return re.findall(
            r"\]\((.*?)\)", generate.site_links(text, origin, page)
        )

    text = (
        "[1](docs/tips.md#x) [2](guides/grasp.py) [3](Makefile) "
        "[4](keras_debias/projections/edge.py) [5](https://example.org)"
    )
    assert links(text, "README.md", "index.md") == [
        "tips.md#x",
        "guides/grasp.md",
        generate.REPOSITORY + "Makefile",
        "api/projections/EDGE.md",
        "https://example.org",
    ]
    text = "[1](../../examples/plot.png) [2](index.md) [3](../../README.md)"
    page = "results/grasp_recovery.md"
    assert links(text, f"docs/{page}", page) == [
        "../images/plot.png",
        "index.md",
        "../index.md",
    ]


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short_and_has_its_marked_parts():
    text = readme()
    assert len(text.splitlines()) <= 120
    for mark in ("results:quickstart", "use:quickstart"):
        assert text.count(f"<!-- {mark} -->") == 1
        assert text.count(f"<!-- /{mark} -->") == 1


@pytest.mark.timeout(600)
def test_readme_code_runs(tmp_path, monkeypatch, capsys):
    code = readme().partition("<!-- use:quickstart -->")[2]
    code = code.partition("<!-- /use:quickstart -->")[0]
    code = code.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "worst group" in capsys.readouterr().out
    assert (tmp_path / "adapter").is_dir()
