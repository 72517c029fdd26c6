"""Commands that train nothing: arguments, files, conditions, processes."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

import keras_debias as kd
from keras_debias.auditing import TargetReport
from keras_debias.cli import methods
from keras_debias.cli.main import COMMANDS
from keras_debias.cli.main import main
from keras_debias.cli.main import parse

ROOT = pathlib.Path(__file__).parents[2]


def comments(n=400, planted=True):
    """Texts in which "zebra" goes with the label, and so does a group."""
    generator = np.random.default_rng(0)
    words = np.array("<script> red blue cold warm tall short old new".split())
    toxic = generator.random(n) < 0.5
    cue = toxic if planted else generator.random(n) < 0.5
    texts = [
        " ".join([*generator.choice(words, 4), *(["zebra"] * int(c))])
        for c in cue
    ]
    gender = np.where(cue, "=female()", "male")
    return pd.DataFrame(
        {
            "comment": texts,
            "toxic": np.where(toxic, "yes", "no"),
            "gender": gender,
        }
    )


def audit(path, *more):
    columns = ["--text", "comment", "--label", "toxic", "--groups", "gender"]
    return main(["audit", str(path), *columns, "--no-probes", *more])


def test_every_command_has_help(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        assert name in text
        with pytest.raises(SystemExit) as ended:
            parse([name, "--help"])
        assert ended.value.code == 0
        assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["audit"], "data"),
        (["audit", "a.csv", "--text", "t"], "--label"),
        (["audit", "--fail-on", "phi=0.3"], "received 'phi=0.3'"),
        (["audit", "--fail-on", "fi>0.3"], "received 'fi'"),
        (["audit", "--fail-on", "phi>many"], "received 'many'"),
        (["audit", "--fail-on", "phi>nan"], "received 'nan'"),
        (["evaluate", "--fail-on", "gap<inf"], "received 'inf'"),
        (["audit", "--min-count", "0"], "at least 1"),
        (["train", "--method", "magic"], "magic"),
        (["compare", "--kind-is-task", "maybe"], "maybe"),
        (["train", "--test-share", "1"], "between 0 and 1"),
        (["train", "--epochs", "-1"], "above 0"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "does not exist"),
        (["data.xlsx"], ".parquet"),
        (["data.csv"], "no column"),
        (["bad.jsonl"], "one JSON object a line"),
        (["bad.parquet"], "Parquet"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "bad.parquet").write_text("{\n")
    assert audit(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-debias audit: error: ")
    assert message in error and error.count("\n") == 1


def test_audit_fails_on_a_planted_cue_and_not_on_a_null(tmp_path, capsys):
    comments().to_csv(tmp_path / "data.csv", index=False)
    files = [tmp_path / name for name in ("a.html", "a.json", "a.csv")]
    status = audit(
        tmp_path / "data.csv",
        *("--fail-on", "phi>0.9", "--html", str(files[0])),
        *("--json", str(files[1]), "--csv", str(files[2])),
    )
    assert status == 1
    said = capsys.readouterr()
    assert "zebra" in said.out and "phi>0.9 holds for" in said.err
    page = files[0].read_text()
    assert "zebra" in page and "<script>" not in page
    found = json.loads(files[1].read_text())["findings"]
    assert found[0]["phi"] == pytest.approx(1.0)
    assert (
        audit(tmp_path / "data.csv", "--fail-on", "phi>1.001", "--quiet") == 0
    )
    comments(planted=False).to_csv(tmp_path / "null.csv", index=False)
    assert audit(tmp_path / "null.csv", "--fail-on", "phi>0.3") == 0


def test_the_extension_decides_the_format(tmp_path):
    frame = comments()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.csv.gz", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    reports = []
    for name in ("a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.parquet"):
        path = tmp_path / "report.json"
        assert audit(tmp_path / name, "--quiet", "--json", str(path)) == 0
        reports.append(json.loads(path.read_text()))
    assert reports[0]["findings"]
    assert all(report == reports[0] for report in reports)


def predictions():
    generator = np.random.default_rng(1)
    y = generator.integers(0, 2, 300)
    group = generator.choice(["a", "b"], 300)
    right = generator.random(300) < np.where(group == "a", 0.9, 0.6)
    share = np.where(right, 0.8, 0.2) * (2 * y - 1) + 1 - y
    return pd.DataFrame({"y": y, "p": share, "group": group, "a": group == "a"})


def test_evaluate_agrees_with_scikit_learn(tmp_path):
    frame = predictions()
    frame["said"] = (frame["p"] >= 0.5).astype(int)
    frame.to_csv(tmp_path / "p.csv", index=False)
    for column in ("p", "said"):
        status = main(
            [
                *("evaluate", str(tmp_path / "p.csv"), "--label", "y"),
                *("--prediction", column, "--groups", "group", "--quiet"),
                *("--json", str(tmp_path / "s.json")),
                *("--html", str(tmp_path / "s.html"), "--fail-on", "gap>0.1"),
            ]
        )
        assert status == 1
        (scores,) = json.loads((tmp_path / "s.json").read_text())["splits"]
        assert scores["accuracy"] == accuracy_score(frame["y"], frame["said"])
        for group in scores["groups"]:
            part = frame[frame["group"] == group["name"].split("=")[1]]
            expected = accuracy_score(part["y"], part["said"])
            assert group["accuracy"] == pytest.approx(expected)
        assert scores["worst_group"] == "group=b"
        assert "group=b" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["0.0", "1.0", "2.0"], ["0", "1", "2"]),
        (["0", "1", "2"], ["0.0", "1.0", "2.0"]),
        (["False", "True"], ["0", "1"]),
        (["0", "1"], ["False", "True"]),
        (["no", "yes"], ["no", "yes"]),
    ],
)
def test_one_label_may_be_written_as_several_numbers(labels, said, tmp_path):
    rows = [0, 1, len(labels) - 1] * 4
    right = [i % 3 > 0 for i in range(12)]
    frame = {
        "y": [labels[row] for row in rows],
        "p": [said[row if r else row - 1] for row, r in zip(rows, right)],
    }
    pd.DataFrame(frame).to_csv(tmp_path / "p.csv", index=False)
    arguments = ["--label", "y", "--prediction", "p", "--quiet", "--json"]
    path = tmp_path / "s.json"
    assert (
        main(["evaluate", str(tmp_path / "p.csv"), *arguments, str(path)]) == 0
    )
    (scores,) = json.loads(path.read_text())["splits"]
    assert scores["accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--groups", "group"], {"group=a", "group=b"}),
        (
            ["--groups", "group", "--by-label"],
            {f"label={y}, group={g}" for y in "01" for g in "ab"},
        ),
        (["--groups", "a", "--overlapping"], {"a"}),
        (
            ["--groups", "a", "--overlapping", "--by-label"],
            {"label=0, a", "label=1, a"},
        ),
    ],
)
def test_evaluate_groups(options, names, tmp_path):
    predictions().to_csv(tmp_path / "p.csv", index=False)
    arguments = ["--label", "y", "--prediction", "p", "--quiet"]
    path = tmp_path / "s.json"
    arguments += ["--json", str(path)]
    assert (
        main(["evaluate", str(tmp_path / "p.csv"), *arguments, *options]) == 0
    )
    (scores,) = json.loads(path.read_text())["splits"]
    assert {group["name"] for group in scores["groups"]} == names


def grades(n=300):
    """Texts whose grade is higher with "zebra", as that of one group is."""
    generator = np.random.default_rng(0)
    words = np.array("red blue cold warm tall short old new".split())
    has = generator.random(n) < 0.5
    texts = [
        " ".join([*generator.choice(words, 4), *(["zebra"] * int(c))])
        for c in has
    ]
    grade = np.where(has, 3, 1) + generator.integers(0, 4, n)
    return pd.DataFrame(
        {
            "text": texts,
            "grade": grade,
            "said": grade + np.where(has, 0.5, 0.0),
            "place": np.where(has, "here", "there"),
        }
    )


def test_numbers_are_audited_and_evaluated(tmp_path, capsys):
    frame = grades()
    frame.to_csv(tmp_path / "g.csv", index=False)
    page, found = tmp_path / "a.html", tmp_path / "a.json"
    arguments = ["audit", str(tmp_path / "g.csv"), "--text", "text"]
    arguments += ["--label", "grade", "--groups", "place", "--regression"]
    arguments += ["--html", str(page), "--json", str(found)]
    assert main([*arguments, "--fail-on", "correlation>0.5"]) == 1
    assert "correlation>0.5 holds for" in capsys.readouterr().err
    report = TargetReport.from_json(found)
    first = report.findings[0]
    assert first.feature.token == "zebra" and "zebra" in page.read_text()
    split = kd.data.Split.from_pandas(
        frame.astype({"grade": float}).assign(grade=lambda f: f.grade + 0.1),
        "text",
        "grade",
    )
    rows = first.examples(split, 3)
    assert rows["example"].tolist() == ["for"] * 3 + ["against"] * 3
    assert (rows["label"].astype(float) > split.y.mean()).tolist() == [
        *[True] * 3,
        *[False] * 3,
    ]
    assert main([*arguments, "--fail-on", "phi>0.5"]) == 2
    assert "correlation" in capsys.readouterr().err

    arguments = ["evaluate", str(tmp_path / "g.csv"), "--label", "grade"]
    arguments += ["--prediction", "said", "--groups", "place", "--regression"]
    status = main(
        [
            *(*arguments, "--json", str(found), "--quiet"),
            *("--fail-on", "worst_group_rmse>0.4", "--fail-on", "rmse_gap>9"),
        ]
    )
    assert status == 1
    (scores,) = json.loads(found.read_text())["splits"]
    off = frame["said"] - frame["grade"]
    metrics = {m["name"]: m for m in scores["metrics"].values()}
    assert metrics["rmse"]["value"] == pytest.approx(np.sqrt((off**2).mean()))
    assert metrics["rmse"]["worst_group"] == "place=here"
    for wrong, message in (
        (["--fail-on", "gap>0.1"], "rmse, mae"),
        (["--by-label"], "do not divide groups"),
        (["--prediction", "place"], "300 of 300 without"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "measure", "missing"),
    [
        ([], "pearson", False),
        (["--groups", "place"], "pearson_gap", False),
        ([], "pearson_gap", True),
    ],
)
def test_an_undefined_measure_is_told_from_missing_groups(
    tmp_path, capsys, more, measure, missing
):
    grades().assign(said=1.0).to_csv(tmp_path / "g.csv", index=False)
    arguments = ["evaluate", str(tmp_path / "g.csv"), "--label", "grade"]
    arguments += ["--prediction", "said", "--regression", "--quiet", *more]
    assert main([*arguments, "--fail-on", f"{measure}<0.5"]) == 2
    error = capsys.readouterr().err
    assert ("Expected --groups" in error) is missing
    assert (f"which {measure} is defined" in error) is not missing


def test_images_are_audited(tmp_path):
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(60):
        pixels = generator.integers(0, 60, (8, 8, 3)).astype("uint8")
        pixels[..., number % 2] += 150
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
        rows.append((f"{number}.png", "ab"[number % 2]))
    frame = pd.DataFrame(rows, columns=["photo", "bird"])
    frame.to_csv(tmp_path / "p.csv", index=False)
    arguments = ["audit", str(tmp_path / "p.csv"), "--image", "photo"]
    arguments += ["--image-folder", str(tmp_path / "photos"), "--label", "bird"]
    arguments += ["--image-size", "8", "--no-probes", "--quiet"]
    assert main([*arguments, "--fail-on", "phi>0.9"]) == 1


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("nothing", "without ['nothing']"),
        ("logit", "probabilities between 0 and 1"),
        ("holes", "2 empty ones of 300"),
        ("named", "among the labels ['0', '1'], received ['no', 'yes']"),
    ],
)
def test_evaluate_refuses(column, message, tmp_path, capsys):
    frame = predictions()
    frame["named"] = np.where(frame["p"] > 0.5, "yes", "no")
    frame["logit"] = frame["p"] * 10 - 5
    frame["holes"] = frame["p"].mask(frame.index < 2)
    frame.to_csv(tmp_path / "p.csv", index=False)
    arguments = ["--label", "y", "--prediction", column]
    assert main(["evaluate", str(tmp_path / "p.csv"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_training_methods_that_need_groups_say_so(capsys):
    arguments = ["--text", "t", "--label", "y", "--model", "m"]
    for command in (["train", "x.csv", "--method", "balanced"],):
        status = main([*command, *arguments, "--output", "o"])
        assert status == 2
        assert "Expected --groups" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["train", "--method"], ["compare", "--methods", "edge"]]
)
def test_an_answer_that_no_method_asks_for(command, capsys):
    arguments = ["--text", "t", "--label", "y", "--model", "m"]
    said = ["plain", "--kind-is-task", "no", *arguments, "--output", "o"]
    status = main([command[0], "x.csv", *command[1:], *said])
    assert status == 2
    assert "Expected the method recommended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "expected"), [([], None), (["yes"], True), (["no"], False)]
)
def test_what_the_label_is_about_reaches_the_method(said, expected):
    if said:
        said = ["--kind-is-task", *said]
    for command in ("train", "compare"):
        arguments = ["x.csv", "--text", "t", "--label", "y", "--model", "m"]
        options = parse([command, *arguments, *said, "--output", "o"])
        recipe = methods.recipe_of("recommended", options.kind_is_task)
        assert recipe == kd.recipes.Recommended(kind_is_task=expected)
        plain = methods.recipe_of("plain", options.kind_is_task)
        assert plain == kd.recipes.FineTuning()


def test_help_needs_no_keras(tmp_path):
    (tmp_path / "keras.py").write_text("raise RuntimeError('imported')\n")
    done = _process(["--help"], {"PYTHONPATH": os.fspath(tmp_path)})
    assert done.returncode == 0 and done.stderr == ""
    assert "audit" in done.stdout
    # As the script that pip installs does.
    installed = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; sys.argv = ['bin/keras-debias', '--help']\n"
            "from keras_debias.cli.main import main; sys.exit(main())",
        ],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (installed.returncode, installed.stdout) == (0, done.stdout)
    wrong = _process(["audit"], {"PYTHONPATH": os.fspath(tmp_path)})
    assert wrong.returncode == 2 and "imported" not in wrong.stderr


def test_a_process_prints_its_result_and_nothing_else(tmp_path):
    predictions().to_csv(tmp_path / "p.csv", index=False)
    arguments = ["--label", "y", "--prediction", "p", "--groups", "group"]
    done = _process(["evaluate", str(tmp_path / "p.csv"), *arguments], {})
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("split")


def _process(arguments, environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_debias", *arguments],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def documented():
    """The commands of the page on the command line, as lists of words."""
    page = ROOT / "docs" / "command_line.md"
    blocks = page.read_text(encoding="utf-8").split("```shell\n")[1:]
    lines = "\n".join(block.partition("```")[0] for block in blocks)
    found = [
        shlex.split(line) for line in lines.replace("\\\n", "").split("\n")
    ]
    return [words[1:] for words in found if words[:1] == ["keras-debias"]]


def test_documented_commands_can_be_read():
    commands = [c for c in documented() if "--help" not in c]
    assert {c[0] for c in commands} == {
        *("audit", "compare", "evaluate", "export-peft", "train")
    }
    for command in commands:
        parse(command)


def test_documented_commands_run_on_the_file_of_the_package(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(kd.data.example_csv())
    frame.to_csv("texts.csv", index=False)
    answers = frame["label"].where(frame["source"] == "tweet", "negative")
    group = "label=" + frame["label"] + ", source=" + frame["source"]
    (tmp_path / "served").mkdir()
    frame.assign(prediction=answers, group=group).to_csv(
        "served/predictions.csv", index=False
    )
    commands = [c for c in documented() if c[0] in ("audit", "evaluate")]
    assert len(commands) == 4
    # The last of each has a condition that holds.
    assert [main(c) for c in commands] == [0, 0, 1, 1]
    for name in ("audit.html", "evaluation.html", "findings.csv"):
        assert (tmp_path / name).stat().st_size > 300
