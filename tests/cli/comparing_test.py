"""`compare` on a tiny preset; what trains is tested elsewhere."""

import pandas as pd
import pytest

from keras_debias.cli.main import main
from tests.cli.tiny import inputs  # noqa: F401
from tests.cli.tiny import training

# The groups of the test rows are small.
pytestmark = pytest.mark.filterwarnings("ignore:No group of the split")


def test_compare_writes_a_report_and_goes_on(
    inputs,  # noqa: F811
    tmp_path,
    capsys,
):
    arguments = training(inputs, "--output", str(tmp_path / "c"))
    arguments += ["--methods", "plain", "balanced", "--seeds", "0"]
    assert main(["compare", *arguments]) == 0
    assert "balanced" in capsys.readouterr().out
    page = (tmp_path / "c" / "report.html").read_text()
    assert "balanced" in page and "place==here" in page
    summary = pd.read_csv(tmp_path / "c" / "summary.csv")
    assert set(summary["method"]) == {"plain", "balanced"}
    assert main(["compare", *arguments]) == 0
    assert capsys.readouterr().out.count("cached") == 2
