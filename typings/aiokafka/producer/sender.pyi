from typing import Any

BACKOFF_OVERRIDE: float

class SendProduceReqHandler:
    def handle_response(self, response: Any) -> None: ...
