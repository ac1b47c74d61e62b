"""Logs: one JSON object per line, or plain lines on a terminal."""

import logging
import sys
from datetime import UTC, datetime

import orjson
from opentelemetry import trace

from signalbox.observability.stderr_lines import capture, kept_stderr

LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}


class JsonLines(logging.Formatter):
    """`time, level, logger, message`, the ids given as `extra={"ids": {...}}`, and the trace's."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": LEVELS.get(record.levelname, record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "ids", {}),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class PlainLines(logging.Formatter):
    """`12:01:02.345 warning envoy: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        ids = "".join(f" {k}={v}" for k, v in getattr(record, "ids", {}).items())
        level = LEVELS.get(record.levelname, record.levelname.lower())
        text = f"{at} {level:7} {record.name.removeprefix('signalbox.')}: {record.getMessage()}{ids}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up(*, json: bool | None = None) -> None:
    """Logs to stderr; plain lines on a terminal, else JSON, unless `json` is given.

    With JSON, output of libraries and the interpreter to stderr is converted too.
    """
    as_json = json if json is not None else not sys.stderr.isatty()
    handler = logging.StreamHandler(kept_stderr() if as_json else sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("signalbox").setLevel(logging.INFO)
    if as_json:
        capture()


def say(text: str, level: int = logging.INFO) -> None:
    """A sentence for the user who started this process: a log line if the log is JSON, else plain text."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler.formatter, JsonLines) for handler in handlers):
        logging.getLogger("signalbox").log(level, "%s", text)
    else:
        prefix = "signalbox: " if level >= logging.ERROR else ""
        print(f"{prefix}{text}", file=sys.stderr, flush=True)
