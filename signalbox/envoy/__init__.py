"""The local Envoy: a supervised child process, and probes of the deployments that it serves."""
