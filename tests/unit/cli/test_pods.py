from __future__ import annotations

import pytest

from penstock.cli.inside import resolve
from penstock.lab.state import LabRecord, PodRecord
from penstock.meta.errors import PenstockError
from penstock.runtime.processes import own_process


def pod(namespace: str, name: str, *, ready: bool = True) -> PodRecord:
    return PodRecord(
        uid=f"{namespace}-{name}",
        namespace=namespace,
        name=name,
        netns="",
        cgroup="",
        addresses=(),
        phase="Running",
        ready=ready,
        restarts=0,
        reason="",
        message="",
        containers=(),
    )


LAB = LabRecord(
    process=own_process(),
    cgroup="",
    pods=(
        pod("shop", "frontend-6tucq-0"),
        pod("shop", "orders-v1-rlmkg-0", ready=False),
        pod("shop", "orders-v1-rlmkg-1"),
        pod("shop", "orders-v2-olcl7-0"),
        pod("test", "frontend-aaaaa-0"),
        pod("test", "tool"),
        pod("test", "tool-2"),
    ),
)


@pytest.mark.parametrize(
    ("word", "namespace", "found"),
    [
        ("tool", "", "test/tool"),
        ("tool-2", "", "test/tool-2"),
        ("frontend", "shop", "shop/frontend-6tucq-0"),
        ("test/frontend", "", "test/frontend-aaaaa-0"),
        ("pod/orders-v2", "", "shop/orders-v2-olcl7-0"),
        ("deploy/orders-v1", "", "shop/orders-v1-rlmkg-1"),
        ("deployment/frontend", "test", "test/frontend-aaaaa-0"),
    ],
)
def test_a_pod_is_found_by(word: str, namespace: str, found: str) -> None:
    record = resolve(LAB, word, namespace)
    assert f"{record.namespace}/{record.name}" == found


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("frontend", "'frontend' can be shop/frontend-6tucq-0, test/frontend-aaaaa-0"),
        ("none", "there is no pod 'none'; there are: shop/frontend"),
        ("deploy/none", "Deployment 'none' has no pod; there are: frontend"),
    ],
)
def test_what_is_no_one_pod_is_told_with_the_choice(word: str, said: str) -> None:
    with pytest.raises(PenstockError, match=said):
        resolve(LAB, word)
