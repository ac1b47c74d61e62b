"""The read model of the observed state of gateways: deliveries of deployments, live revisions, connected
nodes.

Deliveries and live revisions are kept for ever, per gateway. Of nodes only the current state is kept: whether
each is connected, the position it acknowledged, and its answers that differ from that.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Index, MetaData

from projections.deliveries.storage import keys_of, load, loaded_rows, save
from projections.deliveries.tables import indexes, tables
from projections.readmodel import Recorded
from projections.shape import checked_data, shapes
from schemas.status import STATUSES, DeliveryReported, NodeReported

_SHAPES = shapes(STATUSES)
_DELIVERY = DeliveryReported.type()
_NODE = NodeReported.type()


class Deliveries:
    name = "deliveries"
    version = 4
    topic = "status"

    def metadata(self, prefix: str) -> MetaData:
        return tables(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return indexes(prefix)

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        reported: list[tuple[str, int, dict[str, Any]]] = []
        for record in records:
            type_ = record.envelope.type
            data = checked_data(_SHAPES.get(type_), record.envelope)
            if type_ in (_DELIVERY, _NODE):
                reported.append((type_, record.position, data))
        if not reported:
            return
        deliveries = [data for type_, _, data in reported if type_ == _DELIVERY]
        keys = keys_of(deliveries, [data for type_, _, data in reported if type_ == _NODE])
        withdrawn = {(d["organization"], d["name"]) for d in deliveries if d["fact"] == "withdrawn"}
        of = tables(prefix)
        observed = load(connection, of, keys, withdrawn)
        before = loaded_rows(observed)
        for type_, position, data in reported:
            if type_ == _DELIVERY:
                observed.delivery_reported(position, data)
            else:
                observed.node_reported(position, data)
        save(connection, of, before, observed)
