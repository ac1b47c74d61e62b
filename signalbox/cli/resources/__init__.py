"""The verbs on resources, such as `get`, `apply` and `deploy`."""
