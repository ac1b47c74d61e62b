"""Envoy: translator, resource store, discovery server."""

from xds import plain_messages

plain_messages.use()
