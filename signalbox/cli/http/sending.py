"""HTTP connections that read the server's answer even if the server stops reading the request.

A server that refuses a request early (413, 401) answers and closes while the body is still being sent. The
standard library then reports the failed write, although the answer with the reason has arrived.
"""

import urllib.request
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any


class Interrupted(OSError):
    """The server closed the connection while the request was being sent, and gave no answer."""


class _AnswerFirst(HTTPConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._failed: OSError | None = None

    def send(self, data: Any) -> None:
        if self._failed is not None:
            return
        try:
            super().send(data)
        except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError) as error:
            self._failed = error

    def getresponse(self) -> HTTPResponse:
        """Raises Interrupted when the request was not sent completely and there is no answer."""
        try:
            return super().getresponse()
        except (OSError, HTTPException) as error:
            if self._failed is None:
                raise
            raise Interrupted(str(self._failed)) from error


class _TlsAnswerFirst(_AnswerFirst, HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_AnswerFirst, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_TlsAnswerFirst, req)


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """An opener with these connections."""
    return urllib.request.build_opener(_Http, _Https, *handlers)
