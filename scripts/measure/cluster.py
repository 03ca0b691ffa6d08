"""A namespace of the cluster, the users in it, and ways to its pods without buildfleet."""

import base64
import contextlib
import json
import os
import subprocess
import time

from measure.machine import run

# As in driver/src/manifest.rs.
TLS_PORT = 1234
TLS_SERVER_NAME = "buildkitd.buildfleet.internal"


class Cluster:
    """A namespace, and two users whose requests the API server counts apart."""

    def __init__(self, folder):
        self.folder = folder
        self.admin = os.environ["KUBECONFIG"]
        self.namespace = f"bench-{os.getpid()}"
        self.forwards = []

    def kubectl(self, *words, stdin=None):
        return run("kubectl", "--kubeconfig", self.admin, *words, stdin=stdin)

    def up(self):
        self.kubectl("create", "namespace", self.namespace)
        return {who: self.user(who) for who in ("ours", "stock")}

    def user(self, who):
        name = f"{self.namespace}-{who}"
        account = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        objects = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": self.namespace}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
             "metadata": {"name": name, "namespace": self.namespace}, "subjects": [account],
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}},
            {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name},
             "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "workload-high"},
                      "rules": [{"subjects": [{"kind": "ServiceAccount",
                                               "serviceAccount": {"name": name, "namespace": self.namespace}}],
                                 "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                                                    "clusterScope": True, "namespaces": ["*"]}],
                                 "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}},
        ]
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        token = self.kubectl("-n", self.namespace, "create", "token", name, "--duration=4h").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"] = [{"name": name, "user": {"token": token}}]
        config["contexts"][0]["context"].update({"user": name, "namespace": self.namespace})
        path = self.folder / f"kubeconfig-{who}"
        path.write_text(json.dumps(config))
        return path

    def requests(self, who):
        """Requests of one user so far; exec and port-forward have no user in the metrics and are counted for whoever runs."""
        metrics = self.kubectl("get", "--raw", "/metrics")
        schema = f'flow_schema="{self.namespace}-{who}"'
        total = 0.0
        for line in metrics.splitlines():
            dispatched = line.startswith("apiserver_flowcontrol_dispatched_requests_total{") and schema in line
            connected = line.startswith("apiserver_request_total{") and 'verb="CONNECT"' in line
            if dispatched or connected:
                total += float(line.rsplit(" ", 1)[1])
        return round(total)

    def pod(self, deployment):
        names = self.kubectl("-n", self.namespace, "get", "pods", "-l", f"app={deployment}", "-o", "name").split()
        return names[0].removeprefix("pod/")

    # What follows are addresses for buildctl, with the flags that it needs for them.

    def by_exec(self, node):
        return ["--addr", f"kube-pod://{self.pod(node)}?namespace={self.namespace}"]

    def by_address(self, node):
        address = self.kubectl("-n", self.namespace, "get", "pod", self.pod(node), "-o", "jsonpath={.status.podIP}").strip()
        return ["--addr", f"tcp://{address}:{TLS_PORT}", *self.certificates(node)]

    def by_port_forward(self, node, kubeconfig):
        """Through a `kubectl port-forward` that runs until `down`."""
        forward = subprocess.Popen(["kubectl", "--kubeconfig", kubeconfig, "-n", self.namespace, "port-forward",
                                    f"pod/{self.pod(node)}", f":{TLS_PORT}"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.forwards.append(forward)
        # "Forwarding from 127.0.0.1:38471 -> 1234"
        line = forward.stdout.readline()
        port = line.split(" -> ")[0].rsplit(":", 1)[1]
        return ["--addr", f"tcp://127.0.0.1:{port}", *self.certificates(node)]

    def by_relay(self, program, transport):
        """Through a program that has our ways into a pod, and moves bytes without a look at them; until `down`, with a pod of its own."""
        socket = self.folder / f"relay-{transport}.sock"
        relay = subprocess.Popen([program, self.admin, socket, f"namespace={self.namespace}", f"transport={transport}"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.forwards.append(relay)
        said = []
        for line in relay.stdout:
            said.append(line)
            if line.startswith("listening"):
                # It says a line for each connection, which a pipe holds.
                return ["--addr", f"unix://{socket}"]
        raise RuntimeError(f"{program}: no socket\n{''.join(said)}")

    def certificates(self, node):
        """The daemon's own, from the node's Secret."""
        folder = self.folder / f"certificates-{node}"
        folder.mkdir(mode=0o700, exist_ok=True)
        data = json.loads(self.kubectl("-n", self.namespace, "get", "secret", f"{node}-tls", "-o", "json"))["data"]
        flags = ["--tlsservername", TLS_SERVER_NAME]
        for flag, file in (("--tlscacert", "ca.pem"), ("--tlscert", "client-cert.pem"), ("--tlskey", "client-key.pem")):
            (folder / file).write_bytes(base64.b64decode(data[file]))
            flags += [flag, str(folder / file)]
        return flags

    def wait_until_gone(self, deployment):
        self.kubectl("-n", self.namespace, "wait", "--for=delete", "pod", "-l", f"app={deployment}", "--timeout=90s")

    def version(self):
        return json.loads(self.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]

    def down(self):
        for forward in self.forwards:
            forward.terminate()
            forward.wait()
        with contextlib.suppress(Exception):
            for who in ("ours", "stock"):
                self.kubectl("delete", "flowschema", f"{self.namespace}-{who}", "--ignore-not-found")
            self.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
            # Pods hold gigabytes; who measures next needs the room.
            until = time.monotonic() + 60
            while time.monotonic() < until and self.kubectl("get", "namespace", self.namespace, "--ignore-not-found").strip():
                time.sleep(1)
