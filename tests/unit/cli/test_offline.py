"""Statuses of files, while nothing runs: `translate --to status` and `get -f`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.formats import Format
from penstock.cli.get import get
from penstock.cli.translate import statuses
from penstock.meta.paths import RunPaths

SHOP = Path(__file__).parents[3] / "examples" / "shop"
NOWHERE = RunPaths(Path("/nonexistent"))


def test_statuses_are_those_of_every_object_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert statuses(SHOP, Format.JSON) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    kinds = {one["kind"] for one in items}
    assert kinds >= {"Gateway", "GatewayClass", "HTTPRoute", "CiliumNetworkPolicy"}
    assert "Deployment" not in kinds
    (gateway,) = [one for one in items if one["kind"] == "Gateway"]
    said = {one["type"]: one["status"] for one in gateway["status"]["conditions"]}
    assert said == {"Accepted": "True", "Programmed": "True"}
    assert "spec" not in gateway


def test_as_a_table_statuses_are_a_line_for_each_condition(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert statuses(SHOP, Format.TABLE) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Gateway", "shop/shop", "http", "Conflicted", "False", "NoConflicts", "-"] in lines


def test_objects_of_files_are_shown_with_their_conditions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert get(NOWHERE, "gw", "", namespace=None, form=Format.WIDE, files=SHOP) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["NAMESPACE", "NAME", "CLASS", "ADDRESS"]
    assert row.split()[:3] == ["shop", "shop", "penstock"]
    assert "gateway.yaml:" in row
    assert get(NOWHERE, "gw", "none", namespace="shop", form=Format.TABLE, files=SHOP) == 1


def test_gateways_of_a_class_that_is_not_in_the_files_have_statuses_too(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (SHOP / "gateway.yaml").read_text().replace("ClassName: penstock", "ClassName: mesh")
    gateway = "---".join(text.split("---")[1:])
    file = tmp_path / "gateway.yaml"
    file.write_text(gateway)
    assert get(NOWHERE, "gw", "", namespace=None, form=Format.TABLE, files=file) == 0
    told = capsys.readouterr()
    assert "True" in told.out
    assert "GatewayClass mesh is not in these files" in told.err
    assert statuses(file, Format.TABLE) == 0
    assert "GatewayClass mesh is not in these files" in capsys.readouterr().err


def test_what_is_wrong_with_the_files_is_told_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\n")
    assert statuses(tmp_path, Format.TABLE) == 1
    assert "a.yaml" in capsys.readouterr().err
