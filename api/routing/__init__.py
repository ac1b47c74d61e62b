"""Path operations of FastAPI, with checks common to all requests, and called directly where possible."""
