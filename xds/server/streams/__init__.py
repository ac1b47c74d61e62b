"""Streams of proxies as state machines: requests and changes in, responses and reports out. No I/O."""
