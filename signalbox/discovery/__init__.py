"""The xDS server of a process: its resources, and status messages about the answers of proxies."""
