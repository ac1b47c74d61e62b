"""Path operations: FastAPI's, with the checks that all requests pass, and called directly where possible."""
