"""What every error has in common."""

from typing import Any

import httpx


def problem(answer: httpx.Response, status: int, rule: str) -> dict[str, Any]:
    """The problem document of `answer`, checked for what all of them promise."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    message = answer.json()
    assert message["type"] == f"https://signalbox.io/problems/{rule}", message
    assert message["status"] == status
    assert message["title"] and message["detail"]
    assert "Traceback" not in answer.text
    return message
