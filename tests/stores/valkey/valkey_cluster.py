"""A real cluster for tests: primaries, and replicas if wanted, each a server of its own."""

import signal
from pathlib import Path
from typing import Any

from tests.stores.valkey.valkey_server import Program, Server, free_port, wait_until
from valkey.cluster import ClusterNode, ValkeyCluster

from recollect_server.stores.valkey._cluster import SLOTS, key_slot

CLUSTERED = ("--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")


# Self-signed for the name `localhost` only; made by: openssl req -x509 -newkey ec
# -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
# -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
CERTIFICATE = Path(__file__).parent / "tls" / "localhost.crt"
KEY = CERTIFICATE.with_suffix(".key")


class Node(Server):
    """A server of a cluster.

    Args:
        certificate: speak TLS with it, also to other nodes, on a port of its own.
    """

    def __init__(
        self, *options: str, program: Program | None = None, certificate: Path | None = None
    ) -> None:
        self.tls_port = free_port()
        if certificate is not None:
            tls = f"--tls-port {self.tls_port} --tls-cluster yes --tls-auth-clients no"
            named = "--cluster-announce-hostname localhost"
            chosen = "--cluster-preferred-endpoint-type hostname"
            options += (*tls.split(), *named.split(), *chosen.split())
            options += ("--tls-cert-file", str(certificate), "--tls-ca-cert-file", str(certificate))
            options += ("--tls-key-file", str(certificate.with_suffix(".key")))
        super().__init__(*options, program=program)
        self.bus = self.port if certificate is None else self.tls_port

    @property
    def id(self) -> str:
        return str(self.admin.execute_command("CLUSTER", "MYID").decode())

    def cluster(self, *command: object) -> Any:
        return self.admin.execute_command("CLUSTER", *command)

    def refusals(self, code: str) -> int:
        """How many commands were refused with this code."""
        stats = self.admin.info("errorstats")
        return int(stats.get(f"errorstat_{code}", {"count": 0})["count"])

    def knows(self, count: int) -> bool:
        """Whether the cluster works as this node sees it, and has so many nodes."""
        info = self.cluster("INFO").split()
        return b"cluster_state:ok" in info and b"cluster_known_nodes:%d" % count in info


class Cluster:
    """Three primaries with a third of the slots each, killed, frozen and started as one.

    Args:
        replicas: how many every primary has.
        certificate: speak TLS with it; needs a program that can.
    """

    def __init__(
        self,
        *options: str,
        replicas: int = 0,
        program: Program | None = None,
        certificate: Path | None = None,
    ) -> None:
        def node() -> Node:
            return Node(*CLUSTERED, *options, program=program, certificate=certificate)

        self.primaries = [node() for _ in range(3)]
        self.replicas = [node() for _ in range(3 * replicas)]
        self.nodes = [*self.primaries, *self.replicas]
        self._admin: Any = None

    @property
    def admin(self) -> Any:
        """valkey-py's cluster client, as it is used when no node fails and no slot moves."""
        if self._admin is None:
            nodes = [ClusterNode("127.0.0.1", node.port) for node in self.nodes]
            self._admin = ValkeyCluster(startup_nodes=nodes)
        return self._admin

    def url(self, scheme: str) -> str:
        return f"{self.nodes[0].url(scheme)}?cluster=true"

    def form(self) -> None:
        """Start the nodes and make them one cluster."""
        for node in self.nodes:
            node.start()
        third = -(-SLOTS // 3)
        for number, primary in enumerate(self.primaries):
            first = number * third
            primary.cluster("ADDSLOTSRANGE", first, min(first + third, SLOTS) - 1)
            primary.cluster("SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.nodes[0].cluster("MEET", "127.0.0.1", node.bus)
        self._wait()
        for number, replica in enumerate(self.replicas):
            replica.cluster("REPLICATE", self.primaries[number % 3].id)
        for replica in self.replicas:
            wait_until(lambda node=replica: node.admin.info()["master_link_status"] == "up")
        if self.replicas:
            wait_until(lambda: all(self._replicas_seen_by(node) for node in self.nodes), 20)

    def _replicas_seen_by(self, node: Node) -> bool:
        replicas = sum(len(nodes) - 1 for _, _, *nodes in node.cluster("SLOTS"))
        return replicas == len(self.replicas)

    def _wait(self) -> None:
        wait_until(lambda: all(node.knows(len(self.nodes)) for node in self.nodes), 20)

    def start(self) -> None:
        """Start the nodes that were killed; return when all agree that the cluster works."""
        for node in self.nodes:
            node.start()
        self._wait()

    def begin_move(self, slot: int, source: Node, target: Node) -> None:
        target.cluster("SETSLOT", slot, "IMPORTING", source.id)
        source.cluster("SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot: int, source: Node, target: Node) -> int:
        """Bring the keys of a slot that is being moved to its target; return how many."""
        keys = source.cluster("GETKEYSINSLOT", slot, 1000)
        if keys:
            to = ("127.0.0.1", target.port, "", 0, 5000)
            source.admin.execute_command("MIGRATE", *to, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, target: Node) -> None:
        for node in sorted(self.primaries, key=lambda node: node is not target):
            node.cluster("SETSLOT", slot, "NODE", target.id)

    def owner(self, key: str) -> Node:
        """Return the primary that was given the slot of a key when the cluster was formed."""
        return self.primaries[key_slot(key) // -(-SLOTS // 3)]

    def send(self, number: signal.Signals) -> None:
        for node in self.nodes:
            node.send(number)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
        for node in self.nodes:
            node.close()
