"""What files say becomes objects; what is not understood keeps its last good version."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from penstock.controlplane.kinds import known_kinds
from penstock.core.decode import Decoded
from penstock.core.deployments import Deployment
from penstock.core.events import Event
from penstock.core.kinds import BUILTIN_KINDS, ConfigMap, Service
from penstock.core.objects import Broken
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Severity
from penstock.sources.contents import SETTLE_SECONDS, Contents
from penstock.sources.file import load
from penstock.sources.manifests import EPOCH, read_manifests
from penstock.sources.reading import UnreadableError, list_files, read_text
from penstock.sources.registry import registry
from penstock.sources.yaml import Text
from support.source_suite import config_map, deployment, service

KINDS = registry(BUILTIN_KINDS)
A = ObjectRef("ConfigMap", "shop", "a")


class Folder:
    """A folder and the objects that it stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents = Contents(KINDS)
        self.reads: list[str] = []

    def write(self, name: str, *objects: dict[str, Any]) -> None:
        self.text(name, "".join(f"---\n{json.dumps(one)}\n" for one in objects))

    def text(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def look(self, now: float = 0.0) -> list[str]:
        """Return the events as "ADDED Kind ns/name"."""
        self.reads = []

        def read(path: str) -> Any:
            self.reads.append(Path(path).name)
            return read_text(path)

        events = self.contents.apply(list_files([self.path]), read, now)
        return [describe(event) for event in events]

    def get(self, ref: ObjectRef = A) -> Decoded | None:
        return next((one for one in self.contents.objects() if one.ref == ref), None)

    @property
    def data(self) -> dict[str, str] | None:
        found = self.get()
        return found.data if isinstance(found, ConfigMap) else None

    @property
    def problems(self) -> list[str]:
        prefix = f"{self.path}/"
        return [str(problem).replace(prefix, "") for problem in self.contents.problems()]


def describe(event: Event) -> str:
    return f"{event.type.value} {event.object.ref}"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class TestObjects:
    def test_many_documents_and_files_make_one_set(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), service("b"))
        folder.write("c.json", config_map("c"))
        folder.text("c.json", json.dumps(config_map("c")))
        assert folder.look() == [
            "ADDED ConfigMap shop/a",
            "ADDED ConfigMap shop/c",
            "ADDED Service shop/b",
        ]

    def test_list_is_taken_apart(self, folder: Folder) -> None:
        items = [config_map("a"), {"metadata": {"name": "b"}}]
        folder.write("a.yaml", {"apiVersion": "v1", "kind": "ConfigMapList", "items": items})
        folder.write("b.yaml", {"apiVersion": "v1", "kind": "List", "items": [config_map("c")]})
        assert folder.look() == [
            "ADDED ConfigMap default/b",
            "ADDED ConfigMap shop/a",
            "ADDED ConfigMap shop/c",
        ]

    def test_place_in_a_list_is_found(self, folder: Folder) -> None:
        folder.text(
            "a.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n"
            "  metadata: {name: a, namespace: shop}\n  data:\n    x: '1'\n",
        )
        folder.look()
        place = folder.contents.locate(A, "data.x")
        assert place == Location(str(folder.path / "a.yaml"), 8, 5)
        assert folder.contents.locate(ObjectRef("ConfigMap", "shop", "other"), "") is None

    def test_metadata_is_completed(self, folder: Folder) -> None:
        folder.write("a.yaml", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
        folder.look()
        found = folder.get(ObjectRef("ConfigMap", "default", "a"))
        assert found is not None
        assert found.metadata.creation_timestamp == EPOCH
        assert found.metadata.generation == 1
        assert len(found.metadata.uid) == 36

    def test_given_uid_and_time_stay(self, folder: Folder) -> None:
        raw = config_map("a")
        raw["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
        folder.write("a.yaml", raw)
        folder.look()
        found = folder.get()
        assert found is not None
        assert found.metadata.uid == "u"
        assert found.metadata.creation_timestamp == "2026-01-01T00:00:00Z"

    def test_namespace_of_cluster_scoped_object_is_dropped(self, folder: Folder) -> None:
        metadata = {"name": "n", "namespace": "shop"}
        folder.write("a.yaml", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        assert folder.look() == ["ADDED Namespace n"]

    def test_object_that_moves_to_another_file_is_not_removed(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        folder.look()
        folder.write("a.yaml", config_map("b"))
        folder.write("c.yaml", config_map("a"))
        assert folder.look() == []

    def test_generation_starts_again_after_removal(self, folder: Folder) -> None:
        for value in "12":
            folder.write("a.yaml", config_map("a", x=value))
            folder.look()
        found = folder.get()
        assert found is not None
        assert found.metadata.generation == 2
        (folder.path / "a.yaml").unlink()
        assert folder.look() == ["DELETED ConfigMap shop/a"]
        folder.write("a.yaml", config_map("a", x="2"))
        folder.look()
        found = folder.get()
        assert found is not None
        assert found.metadata.generation == 1


class TestReading:
    def test_only_the_changed_file_is_read(self, folder: Folder) -> None:
        for name in "abc":
            folder.write(f"{name}.yaml", config_map(name))
            os.utime(folder.path / f"{name}.yaml", (1, 1))
        folder.look()
        assert folder.reads == ["a.yaml", "b.yaml", "c.yaml"]
        folder.write("b.yaml", config_map("b", x="1"))
        os.utime(folder.path / "b.yaml", (1, 1))
        assert folder.look() == ["MODIFIED ConfigMap shop/b"]
        assert folder.reads == ["b.yaml"]
        assert folder.look() == []
        assert folder.reads == []

    def test_unchanged_object_of_a_changed_file_is_the_same(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        folder.look()
        before = folder.get()
        folder.write("a.yaml", config_map("b", x="1"), config_map("a"))
        assert folder.look() == ["MODIFIED ConfigMap shop/b"]
        assert folder.get() is before


class TestLastGood:
    def test_file_that_stops_parsing_keeps_its_objects(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a", x="1"), config_map("b"))
        folder.look()
        folder.text("a.yaml", "a: [\n")
        assert folder.look() == []
        assert folder.problems == [
            (
                "a.yaml:2:1: is not YAML: while parsing a flow node, did not find expected node "
                "content; close the bracket; the last good version stays in force"
            )
        ]
        folder.write("a.yaml", config_map("a", x="2"))
        assert folder.look() == ["MODIFIED ConfigMap shop/a", "DELETED ConfigMap shop/b"]
        assert folder.problems == []

    def test_file_that_never_parsed_has_no_objects(self, folder: Folder) -> None:
        folder.text("a.yaml", "a: [\n")
        assert folder.look() == []
        assert "last good" not in folder.problems[0]

    def test_file_that_returns_to_its_old_text_is_well_again(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"))
        folder.look()
        folder.text("a.yaml", "a: [\n")
        folder.look()
        folder.write("a.yaml", config_map("a"))
        assert folder.look() == []
        assert folder.problems == []

    @pytest.mark.parametrize(
        "document",
        [
            "just text",
            "[1, 2]",
            "a: 1",
            "kind: ConfigMap",
            "{apiVersion: v1, kind: ConfigMap, metadata: {namespace: shop}}",
        ],
    )
    def test_file_with_a_document_that_is_no_object_keeps_its_objects(
        self, folder: Folder, document: str
    ) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        folder.look()
        folder.text("a.yaml", f"{document}\n---\n{json.dumps(config_map('b', x='1'))}\n")
        assert folder.look() == []
        assert "the last good version stays in force" in folder.problems[0]

    def test_document_that_is_no_object_does_not_keep_others_out_at_first(
        self, folder: Folder
    ) -> None:
        folder.text("a.yaml", f"just text\n---\n{json.dumps(config_map('a'))}\n")
        assert folder.look() == ["ADDED ConfigMap shop/a"]
        assert folder.problems == [
            (
                "a.yaml:1:1: is not a Kubernetes object, which is a mapping; "
                "write apiVersion, kind, metadata and spec"
            )
        ]
        folder.text("a.yaml", f"just text\n---\n{json.dumps(config_map('a'))}\n")
        folder.look()
        assert len(folder.problems) == 1

    def test_empty_file_keeps_its_objects(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"))
        folder.look()
        folder.text("a.yaml", "\n")
        assert folder.look() == []
        assert folder.look(1000.0) == []
        assert folder.problems == [
            (
                "a.yaml:1:1: is empty; remove the file to remove its objects; "
                "the last good version stays in force"
            )
        ]

    def test_file_that_lost_its_end_is_believed_after_a_while(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        folder.look()
        folder.write("a.yaml", config_map("a"))
        assert folder.look(10.0) == []
        assert "lost its end" in folder.problems[0]
        assert folder.contents.recheck_after(10.5) == SETTLE_SECONDS - 0.5
        assert folder.look(11.0) == []
        assert folder.look(10.0 + SETTLE_SECONDS) == ["DELETED ConfigMap shop/b"]
        assert folder.problems == []
        assert folder.contents.recheck_after(20.0) is None

    def test_file_whose_end_comes_back_never_lost_an_object(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        folder.look()
        folder.write("a.yaml", config_map("a"))
        folder.look(10.0)
        folder.write("a.yaml", config_map("a"), config_map("b"), config_map("c"))
        assert folder.look(10.1) == ["ADDED ConfigMap shop/c"]
        assert folder.contents.recheck_after(11.0) is None

    def test_every_cut_of_a_file_keeps_its_objects(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"), config_map("b"))
        text = (folder.path / "a.yaml").read_text()
        folder.look()
        for end in range(len(text)):
            folder.text("a.yaml", text[:end])
            assert folder.look() == []

    def test_unreadable_file_keeps_its_objects(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"))
        folder.look()
        folder.write("a.yaml", config_map("a", x="1"))

        def refuse(path: str) -> Any:
            raise UnreadableError(Location(path, 1), "permission denied", "make it readable")

        assert folder.contents.apply(list_files([folder.path]), refuse, 0.0) == ()
        assert folder.problems == [
            "a.yaml:1:1: permission denied; make it readable; the last good version stays in force"
        ]

    def test_unreadable_folder_keeps_its_objects(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a"))
        folder.look()
        folder.path.rename(folder.path.with_name("elsewhere"))
        assert folder.look() == []
        assert len(folder.contents.objects()) == 1
        assert "does not exist" in folder.problems[0]

    def test_object_that_stops_decoding_keeps_its_version_and_place(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a", x="1"), deployment("d"))
        folder.look()
        raw = config_map("a")
        raw["data"] = {"x": 1}
        folder.write("a.yaml", deployment("d", replicas=2), raw)
        assert folder.look() == ["MODIFIED Deployment shop/d"]
        assert folder.data == {"x": "1"}
        assert folder.contents.locate(A, "") == Location(str(folder.path / "a.yaml"), 2, 1)
        assert [problem.rpartition("; the")[0] for problem in folder.problems] == [
            "a.yaml:4:" + str(json.dumps(raw).index('"x"') + 1) + ": ConfigMap shop/a: data.x: "
            'must be a string, not a number (1); put it in quotes: "1"'
        ]

    def test_object_that_never_decoded_is_broken(self, folder: Folder) -> None:
        raw = config_map("a")
        raw["date"] = {}
        folder.write("a.yaml", raw)
        assert folder.look() == ["ADDED ConfigMap shop/a"]
        broken = folder.get()
        assert isinstance(broken, Broken)
        assert broken.raw["date"] == {}
        assert broken.metadata.generation == 1
        assert "last good" not in folder.problems[0]
        folder.write("a.yaml", config_map("a"))
        assert folder.look() == ["MODIFIED ConfigMap shop/a"]
        assert isinstance(folder.get(), ConfigMap)

    @pytest.mark.parametrize("metadata", [None, "x", {}, {"name": 5}, {"name": None}])
    def test_object_without_a_name_is_known_to_exist(self, folder: Folder, metadata: Any) -> None:
        raw = config_map("a") | {"metadata": metadata}
        folder.write("a.yaml", raw)
        (event,) = folder.look()
        assert event.startswith("ADDED ConfigMap default/unnamed-")
        assert all("metadata" in problem for problem in folder.problems)
        (broken,) = folder.contents.objects()
        assert isinstance(broken, Broken)
        assert broken.metadata.uid


class TestClaims:
    def test_object_in_two_files_counts_in_the_first(self, folder: Folder) -> None:
        folder.write("b.yaml", config_map("a", x="b"))
        folder.write("a.yaml", config_map("a", x="a"))
        folder.look()
        assert folder.data == {"x": "a"}
        place = folder.path / "a.yaml"
        assert folder.problems == [
            "b.yaml:2:1: ConfigMap shop/a: is already defined in a.yaml:2; remove one of the two"
        ]
        place.unlink()
        assert folder.look() == ["MODIFIED ConfigMap shop/a"]
        assert folder.data == {"x": "b"}
        assert folder.problems == []

    def test_object_twice_in_one_file_counts_once(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a", x="1"), config_map("a", x="2"))
        folder.look()
        assert folder.data == {"x": "1"}
        assert folder.problems[0].startswith("a.yaml:4:1: ConfigMap shop/a: is already defined")


class TestKinds:
    def test_unsupported_kind_is_a_warning_once(self, folder: Folder) -> None:
        raw = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}}
        folder.write("a.yaml", raw, raw)
        folder.write("b.yaml", raw)
        assert folder.look() == []
        (problem,) = folder.contents.problems()
        assert problem.problem.severity is Severity.WARNING
        assert folder.problems == [
            "a.yaml:2:28: kind: Job of batch/v1 is not supported; the object is ignored"
        ]

    @pytest.mark.parametrize("kind", ["Configmap", "ConfigMaps", "CofigMap", "configmap"])
    def test_misspelt_kind_is_a_mistake_in_the_object_that_is_meant(
        self, folder: Folder, kind: str
    ) -> None:
        folder.write("a.yaml", config_map("a") | {"kind": kind})
        assert folder.look() == ["ADDED ConfigMap shop/a"]
        assert isinstance(folder.get(), Broken)
        assert folder.problems == [
            f"a.yaml:2:22: ConfigMap shop/a: kind: {kind!r} is not ConfigMap; write ConfigMap"
        ]
        assert folder.contents.problems()[0].is_error

    def test_misspelt_kind_leaves_the_last_good_version_in_force(self, folder: Folder) -> None:
        folder.write("a.yaml", config_map("a", x="1"))
        folder.look()
        folder.write("a.yaml", config_map("a", x="2") | {"kind": "Configmap"})
        assert folder.look() == []
        assert folder.data == {"x": "1"}
        assert "the last good version stays in force" in folder.problems[0]
        folder.write("a.yaml", config_map("a", x="2"))
        assert folder.look() == ["MODIFIED ConfigMap shop/a"]

    @pytest.mark.parametrize(
        ("api_version", "kind"),
        [
            ("gateway.networking.k8s.io/v1alpha2", "BackendLBPolicy"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("v1", "ServiceAccount"),
            ("apps/v1", "DaemonSet"),
            ("cilium.io/v2", "CiliumLocalRedirectPolicy"),
            ("cilium.io/v2", "CiliumClusterwideEnvoyConfig"),
            ("serving.knative.dev/v1", "Service"),
        ],
    )
    def test_kind_of_others_is_none_that_is_meant(self, api_version: str, kind: str) -> None:
        raw = config_map("a") | {"apiVersion": api_version, "kind": kind}
        found = read_manifests(Text("a.yaml", json.dumps(raw)), known_kinds(), {})
        assert [one.kind for one in found.ignored] == [kind]
        assert found.manifests == ()

    def test_other_version_of_a_known_group_is_broken_not_ignored(self, folder: Folder) -> None:
        folder.write("a.yaml", deployment("d") | {"apiVersion": "apps/v1beta1"})
        assert folder.look() == ["ADDED Deployment shop/d"]
        assert isinstance(folder.get(ObjectRef("Deployment", "shop", "d")), Broken)
        assert folder.problems[0].endswith("'apps/v1beta1' is not supported; write apps/v1")

    def test_kind_of_another_group_names_the_right_one(self, folder: Folder) -> None:
        folder.write("a.yaml", deployment("d") | {"apiVersion": "extensions/v1beta1"})
        assert folder.look() == []
        assert folder.problems[0].endswith("is not supported; write apiVersion apps/v1")


class TestAddresses:
    def test_address_given_by_hand_moves_who_had_it(self, folder: Folder) -> None:
        ref = ObjectRef("Service", "shop", "b")
        folder.write("b.yaml", service("b"))
        folder.look()
        before = addresses(folder.get(ref))
        folder.write("a.yaml", service("a", clusterIP=before[0]))
        assert folder.look() == ["ADDED Service shop/a", "MODIFIED Service shop/b"]
        assert addresses(folder.get(ObjectRef("Service", "shop", "a"))) == (before[0],)
        after = addresses(folder.get(ref))
        assert after[0] != before[0]
        (folder.path / "a.yaml").unlink()
        assert folder.look() == ["DELETED Service shop/a", "MODIFIED Service shop/b"]
        assert addresses(folder.get(ref)) == before

    def test_address_asked_for_twice_is_an_error_on_the_later_service(self, folder: Folder) -> None:
        folder.write("a.yaml", service("b", clusterIP="10.96.0.99"))
        folder.write("b.yaml", service("a", clusterIP="10.96.0.99"))
        folder.look()
        assert addresses(folder.get(ObjectRef("Service", "shop", "a"))) == ("10.96.0.99",)
        assert len(addresses(folder.get(ObjectRef("Service", "shop", "b")))) == 2
        assert "10.96.0.99 is the address of Service shop/a" in folder.problems[0]
        assert "Service shop/b: spec.clusterIP" in folder.problems[0]


def addresses(found: Decoded | None) -> tuple[str, ...]:
    assert isinstance(found, Service)
    return found.addresses


def test_load_gives_objects_problems_and_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(json.dumps(config_map("a")))
    (tmp_path / "b.yaml").write_text("x: y: z")
    loaded = load([tmp_path], KINDS)
    assert [str(one.ref) for one in loaded.objects] == ["ConfigMap shop/a"]
    assert len(loaded.problems) == 1
    assert loaded.locate(A, "") == Location(str(tmp_path / "a.yaml"), 1, 1)


def test_loading_twice_is_equal(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.yaml").write_text(json.dumps(service(f"s{number}")))
    (tmp_path / "bad.yaml").write_text(json.dumps(deployment("d", replicas=-1)))
    first, second = load([tmp_path], KINDS), load([tmp_path], KINDS)
    assert first.objects == second.objects
    assert first.problems == second.problems


def test_names_and_splitting_of_files_do_not_matter(tmp_path: Path) -> None:
    objects = [service(f"s{number}") for number in range(20)] + [deployment("d")]
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    all_texts = [json.dumps(one) for one in objects]
    (tmp_path / "one" / "all.yaml").write_text("\n---\n".join(all_texts))
    for number, text in enumerate(reversed(all_texts)):
        (tmp_path / "many" / f"{number}.yml").write_text(text)
    first, second = load([tmp_path / "one"], KINDS), load([tmp_path / "many"], KINDS)
    assert first.objects == second.objects
    assert any(isinstance(one, Deployment) for one in first.objects)
