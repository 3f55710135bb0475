r"""The shell lines that start Envoy in a pod of its own.

Envoy's image stays as it comes: its container runs

    sh -c 'until [ -s "$1" ]; do sleep 0.2; done; exec sh "$1"' \
        sh /run/penstock/state/envoy-start.sh

with the run folder mounted at the same path as in the agent's pod, POD_UID (the downward API's
`metadata.uid`) and the host's processes (hostPID). What differs from version to version is in the
file, so agent and Envoy can be upgraded one after the other. Only what POSIX demands is used.
"""

from __future__ import annotations

import shlex

from penstock.agent.envoy_process import EnvoyOptions
from penstock.meta.paths import RunPaths


def envoy_start(paths: RunPaths, options: EnvoyOptions) -> str:
    """Return a script that waits until Envoy has its programs and becomes Envoy.

    Environment: POD_UID, required; ENVOY, the program, "envoy" if it is not given.
    """
    asking, admitted = shlex.quote(str(paths.envoy_asking)), shlex.quote(str(paths.envoy_admitted))
    arguments = " ".join(map(shlex.quote, options.arguments()))
    return f"""\
# Written by the agent of this node; see penstock.agent.envoy_start.
set -eu
: "${{POD_UID:?is not set; the pod needs it from metadata.uid}}"
cd {shlex.quote(str(paths.root))}
umask 077
ulimit -n "$(ulimit -H -n)" || true
until [ "$(cat {admitted} 2>/dev/null)" = "$POD_UID" ]; do
    [ "$(cat {asking} 2>/dev/null)" = "$POD_UID" ] || echo "$POD_UID" >{asking}
    sleep 0.2
done
exec "${{ENVOY:-envoy}}" {arguments}
"""
