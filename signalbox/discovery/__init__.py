"""The xDS server of a process: what it serves, and the status messages that its answers become."""
