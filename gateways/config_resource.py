"""The content of the config topic: one ready-to-serve resource per gateway, type and name."""

import hashlib
from dataclasses import dataclass

PRIVATE = "signalbox.io/"
"""Prefix of the resource types for Signalbox's own processes; they are not sent to gateways."""


@dataclass(frozen=True, slots=True)
class DeploymentRef:
    """A deployment that a resource carries; a request to `host` and `context` reaches it."""

    deployment: str
    api: str
    revision: int
    context: str
    host: str = "*"


@dataclass(frozen=True, slots=True)
class ConfigResource:
    """One resource of one gateway, ready to serve.

    `gateway` is its subject (`organizations/<org>/gateways/<name>`); `kind` the product (`envoy`);
    `type` the resource type (for Envoy the type URL); `body` the encoded resource, empty when the
    resource is gone; `version` the content hash of `body`. `requires` names the resources
    `(type, name)` a proxy must have accepted before this one is of use. `position` is that of the event that
    caused it.
    """

    gateway: str
    kind: str
    type: str
    name: str
    version: str
    position: int
    body: bytes
    requires: tuple[tuple[str, str], ...] = ()
    deployments: tuple[DeploymentRef, ...] = ()

    def with_body(self, body: bytes) -> "ConfigResource":
        """As `dataclasses.replace`, in half the time."""
        return ConfigResource(
            *(self.gateway, self.kind, self.type, self.name, self.version, self.position, body),
            *(self.requires, self.deployments),
        )

    @property
    def served(self) -> bool:
        """Whether it is a resource for gateways."""
        return not self.type.startswith(PRIVATE)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.gateway, self.type, self.name)


def content_version(body: bytes) -> str:
    """The same on every replica and after every restart: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(body).hexdigest()[:16]
