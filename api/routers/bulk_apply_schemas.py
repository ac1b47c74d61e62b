"""The body and the response of `apply`, for the OpenAPI document."""

from api.call import Schema

BODY: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["documents"],
    "properties": {
        "documents": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["content"],
                "properties": {
                    "source": {
                        "type": "string",
                        "maxLength": 1000,
                        "description": "Such as the file's name.",
                    },
                    "content": {"type": "string", "description": "YAML or JSON, one or several definitions."},
                },
            },
        },
        "deploy": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {"gateway": {"type": "string"}, "environment": {"type": "string"}},
        },
    },
    "examples": [
        {
            "documents": [{"source": "orders.yaml", "content": "apiVersion: signalbox.io/v1\nkind: API\n"}],
            "deploy": {"gateway": "local"},
        }
    ],
}

RESPONSE: Schema = {
    "type": "object",
    "required": ["items", "position"],
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "line", "kind", "name", "result", "findings"],
                "properties": {
                    "source": {"type": "string"},
                    "line": {"type": "integer"},
                    "kind": {"type": "string"},
                    "name": {"type": "string"},
                    "result": {
                        "enum": ["created", "changed", "unchanged", "rejected", "invalid", "pending"],
                        "description": "`pending`: submitted, not decided in time; see `operation`.",
                    },
                    "version": {"type": ["integer", "null"]},
                    "revision": {"type": ["integer", "null"]},
                    "position": {"type": ["integer", "null"]},
                    "operation": {"type": ["string", "null"]},
                    "deployment": {"type": ["string", "null"]},
                    "deployment_result": {
                        "enum": ["started", "unchanged", None],
                        "description": "`unchanged`: this revision was deployed there already, by the "
                        "deployment that is named.",
                    },
                    "token": {
                        "type": "string",
                        "description": "The token that the nodes of a registered gateway connect with. Shown "
                        "once, and not stored.",
                    },
                    "requested_at": {"type": ["string", "null"]},
                    "decided_at": {"type": ["string", "null"]},
                    "problem": {"$ref": "#/components/schemas/Problem"},
                    "findings": {"type": "array", "items": {"type": "object"}},
                },
            },
        },
        "position": {"type": "integer"},
    },
    "examples": [
        {
            "items": [
                {
                    "source": "orders.yaml",
                    "line": 1,
                    "kind": "API",
                    "name": "orders",
                    "result": "created",
                    "version": 1,
                    "revision": 1,
                    "position": 18,
                    "operation": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
                    "deployment": "019aa3b6-5b20-7cc0-8e4b-6f0a4c8f3d22",
                    "deployment_result": "started",
                    "requested_at": "2026-11-21T02:30:00.000000Z",
                    "decided_at": "2026-11-21T02:30:00.004000Z",
                    "findings": [],
                }
            ],
            "position": 18,
        }
    ],
}
