"""Pods of this node: registered by the CNI plugin or the lab, captured, remembered.

A pod is captured when all that polices it is in place; only then may its first process start.
What is known of registered pods is in the state folder, so a restarted agent goes on with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from penstock.agent.datapath import Affected, LocalPod, NodeDatapath
from penstock.agent.node_resources import canonical
from penstock.meta.errors import PenstockError
from penstock.runtime.files import replace_file

PATH_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

log = structlog.get_logger(__name__)


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever starts a pod tells about it."""

    uid: str
    namespace: str
    name: str
    netns: str
    """Path of its network namespace, absolute or relative to the run folder."""
    cgroup: str = ""
    """Path of its cgroup, below the folder of all pods."""
    addresses: tuple[str, ...] = ()


class RegisteredPod(msgspec.Struct, frozen=True, kw_only=True):
    """A request and the network namespace that its path meant."""

    request: PodRequest
    cookie: int
    policed: bool = True
    """False: neither judged nor redirected, but served by Services."""
    hindrance: str = ""
    """What keeps Envoy from listening there; while there is anything it is not told to."""


class PodError(PenstockError):
    """A pod cannot be captured as asked."""


class PodNotCaptured(PenstockError):  # noqa: N818 - a state that time may mend
    """A pod is registered, and something that polices it is not there yet."""

    def __init__(self, uid: str, reason: str) -> None:
        """Name what is missing."""
        super().__init__(f"pod {uid} is not captured: {reason}; it stays closed, ask again")
        self.uid, self.reason = uid, reason


class PodKernel(Protocol):
    """What has to be attached for each pod."""

    def netns_cookie(self, path: str) -> int:
        """Return the cookie of a network namespace."""
        ...

    def attach_netns(self, uid: str, path: str) -> None:
        """Police what comes into the network namespace; idempotent."""
        ...

    def detach_netns(self, uid: str) -> None:
        """Undo `attach_netns`; idempotent."""
        ...

    def leave_netns(self, uid: str) -> Callable[[], None]:
        """Return what ends the connections that are left in the namespace of a detached pod.

        Envoy keeps connections to backends open, and would use them for the next namespace with
        the same path, though nothing answers there any more. It is to be called once; another
        namespace of that pod may be attached meanwhile.
        """
        ...

    def covers(self, cgroup: str) -> bool:
        """Return whether the sockets of processes in *cgroup* are policed."""
        ...


class PodListeners(Protocol):
    """The listeners that Envoy has inside pods."""

    def open(self, uid: str) -> None:
        """Let Envoy have the pod's listeners."""
        ...

    def close(self, uid: str) -> None:
        """Take them away."""
        ...

    async def missing(self, uid: str) -> str:
        """Return why a listener of the pod does not accept; "" if all do."""
        ...

    async def closed(self, uid: str) -> None:
        """Return when Envoy has let go of the pod's listeners, or does not answer for long."""
        ...


class Pods:
    """The registered pods."""

    def __init__(
        self,
        state: Path,
        datapath: NodeDatapath,
        kernel: PodKernel,
        listeners: PodListeners,
        *,
        on_affected: Callable[[Affected], None] = lambda _: None,
        hindrance: Callable[[str], str] = lambda _: "",
        unpoliced: AbstractSet[str] = frozenset(),
    ) -> None:
        """Prepare; `restore` brings back the pods of an earlier agent.

        Args:
            state: the file that remembers the pods.
            datapath: what the kernel should enforce.
            kernel: what is attached for each pod.
            listeners: what Envoy opens inside pods.
            on_affected: is told whose connections may have another verdict now.
            hindrance: tells what keeps Envoy from listening in a network namespace.
            unpoliced: namespaces whose pods are not policed.
        """
        self._hindrance = hindrance
        self._unpoliced = unpoliced
        self._state = state
        self._datapath = datapath
        self._kernel = kernel
        self._listeners = listeners
        self._on_affected = on_affected
        self._pods: dict[str, RegisteredPod] = {}
        self._changed = asyncio.Condition()

    def registered(self) -> dict[str, RegisteredPod]:
        """Return the pods by uid, also those that are not policed."""
        return dict(self._pods)

    def restore(self) -> None:
        """Take up the pods of an earlier agent; of one whose namespace is another now, forget.

        Nothing that runs is touched: what is attached already stays as it is.
        """
        try:
            known = msgspec.json.decode(self._state.read_bytes(), type=list[RegisteredPod])
        except FileNotFoundError:
            known = []
        except msgspec.MsgspecError as error:
            log.error("pods forgotten", path=str(self._state), error=str(error))  # noqa: TRY400 - the text says it all
            known = []
        for found in known:
            pod = msgspec.structs.replace(found, policed=self._polices(found.request))
            try:
                if not pod.policed:
                    self._kernel.detach_netns(pod.request.uid)
                if self._kernel.netns_cookie(pod.request.netns) != pod.cookie:
                    raise PodError("its network namespace is another one now")
                self._attach(pod)
            except (OSError, PenstockError) as error:
                log.warning("pod not taken up", uid=pod.request.uid, cause=str(error))
                self._forget(pod.request.uid)
        self._save()

    async def register(self, request: PodRequest, *, timeout: float) -> None:  # noqa: ASYNC109 - handed on, as seconds
        """Capture a pod; return when nothing of it passes unpoliced. May be repeated.

        Raises:
            PodError: the request is wrong, or its namespace cannot be attached.
            PodNotCaptured: something is still missing after *timeout* seconds.
        """
        began = time.monotonic()
        await self.add(request)
        await self._captured(request.uid, timeout)
        seconds = round(time.monotonic() - began, 3)
        name = f"{request.namespace}/{request.name}"
        log.info("pod captured", uid=request.uid, pod=name, seconds=seconds)

    async def add(self, request: PodRequest) -> None:
        """Begin to capture a pod; `missing` says what is not in place yet.

        Raises:
            PodError: the request is wrong, or its namespace cannot be attached.
        """
        check(request)
        if request.cgroup and not self._kernel.covers(request.cgroup):
            raise PodError(f"cgroup {request.cgroup}: not below the folder of all pods")
        try:
            pod = RegisteredPod(
                request=request,
                cookie=self._kernel.netns_cookie(request.netns),
                policed=self._polices(request),
            )
            known = self._pods.get(request.uid)
            if known is not None:
                pod = msgspec.structs.replace(pod, hindrance=known.hindrance)
            is_open = known is not None and known.cookie == pod.cookie and not known.hindrance
            if known is not None and known.cookie != pod.cookie:
                await self._let_go(request.uid)
            if known != pod:
                self._attach(pod if is_open else self._looked_at(pod))
                self._save()
        except (OSError, PenstockError) as error:
            raise PodError(f"pod {request.uid}: {error}") from error

    def review(self, *, everyone: bool = False) -> None:
        """Look again whether Envoy can listen in the pods where it could not, or in all pods."""
        for uid in self.registered():
            self._review(uid, always=everyone)

    def is_gone(self, uid: str) -> bool:
        """Return whether the network namespace of a registered pod is there no more."""
        pod = self._pods[uid]
        try:
            return self._kernel.netns_cookie(pod.request.netns) != pod.cookie
        except (OSError, PenstockError):
            return True

    async def unregister(self, uid: str, *, netns: str | None = None) -> bool:
        """Let a pod that ended go, Envoy's sockets in it too; return whether it was known.

        With *netns* only if that is its network namespace: a pod whose sandbox was made anew has
        another one by the time the end of the old one is told. "" is one that is gone.
        """
        pod = self._pods.get(uid)
        if pod is None:
            return False
        if netns and netns != pod.request.netns:
            return False
        if netns == "" and not self.is_gone(uid):
            return False
        await self._let_go(uid)
        return True

    async def _let_go(self, uid: str) -> None:
        """Forget a pod, and end its connections once Envoy's listeners are gone or cannot be."""
        self._forget(uid)
        end = self._kernel.leave_netns(uid)
        try:
            self._save()
            await self._listeners.closed(uid)
        finally:
            end()

    async def missing(self, uid: str) -> str:
        """Return why a pod is not captured yet; "" if it is."""
        pod = self._pods.get(uid)
        if pod is not None and not pod.policed:
            return self._datapath.missing(uid)
        if pod is not None and pod.hindrance:
            return pod.hindrance
        return self._datapath.missing(uid) or await self._listeners.missing(uid)

    async def changed(self) -> None:
        """Look again at pods that wait: a resource or Envoy's state is another now."""
        async with self._changed:
            self._changed.notify_all()

    async def _captured(self, uid: str, seconds: float) -> None:
        reason = "Envoy's admin does not answer"
        try:
            async with asyncio.timeout(seconds):
                while missing := await self.missing(uid):
                    reason = missing
                    self._review(uid)  # not all: others that wait look at theirs
                    # Envoy does not tell when a listener is warm; all else is notified.
                    async with self._changed:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._changed.wait(), 0.05)
        except TimeoutError:
            raise PodNotCaptured(uid, reason) from None

    def _polices(self, request: PodRequest) -> bool:
        return request.namespace not in self._unpoliced

    def _attach(self, pod: RegisteredPod) -> None:
        """Put the pod's parts in place, the kernel's before Envoy's."""
        request = pod.request
        if pod.policed:
            self._kernel.attach_netns(request.uid, request.netns)
        self._pods[request.uid] = pod
        local = LocalPod(
            uid=request.uid,
            cookie=pod.cookie,
            addresses=tuple(map(canonical, request.addresses)),
            policed=pod.policed,
        )
        self._on_affected(self._datapath.add_pod(local))
        if pod.policed and not pod.hindrance:
            self._listeners.open(request.uid)

    def _looked_at(self, pod: RegisteredPod) -> RegisteredPod:
        found = self._hindrance(pod.request.netns) if pod.policed else ""
        if found and found != pod.hindrance:
            log.warning("pod stays closed", uid=pod.request.uid, reason=found)
        return msgspec.structs.replace(pod, hindrance=found)

    def _review(self, uid: str, *, always: bool = False) -> None:
        known = self._pods.get(uid)
        if known is None or not known.policed or not (always or known.hindrance):
            return
        try:
            pod = self._looked_at(known)
            if pod == known:
                return
            self._pods[uid] = pod
            if pod.hindrance:
                self._listeners.close(uid)
            else:
                self._listeners.open(uid)
            self._save()
        except (OSError, PenstockError) as error:  # if its namespace is gone, others find that
            log.warning("pod not looked at", uid=uid, reason=str(error))

    def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._listeners.close(uid)
        self._datapath.remove_pod(uid)
        self._kernel.detach_netns(uid)

    def _save(self) -> None:
        pods = [self._pods[uid] for uid in sorted(self._pods)]
        replace_file(self._state, msgspec.json.encode(pods), durable=True)


def check(request: PodRequest) -> None:
    """Refuse a request that cannot be meant.

    Raises:
        PodError: the uid is no file name, or an address is none.
    """
    if not request.uid or not PATH_SAFE.issuperset(request.uid) or request.uid.startswith("."):
        raise PodError(f"uid {request.uid!r}: letters, digits, '-', '_' and '.' only")
    for address in request.addresses:
        try:
            canonical(address)
        except ValueError as error:
            raise PodError(f"addresses: {error}") from error
