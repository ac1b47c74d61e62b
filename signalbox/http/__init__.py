"""HTTP servers of a process: uvicorn with bounded connections, health checks."""
