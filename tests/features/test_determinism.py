"""Equal objects give equal bytes, in every process."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import hashlib
from penstock.compiler.compile import Compiler
from support import mesh, objects
compiler = Compiler()
compiler.apply(objects.added(mesh.cluster(30)))
digest = hashlib.sha256()
for node in ("", "n1"):
    for resource in compiler.resources(node):
        digest.update(resource.framed)
print(digest.hexdigest(), len(compiler.resources("n1")))
"""


def _run(seed: str) -> str:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_hash_seed_does_not_matter() -> None:
    first = _run("0")
    assert int(first.split()[1]) > 100
    assert first == _run("1") == _run("4242")
