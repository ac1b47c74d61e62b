"""The HTTP API."""

from pydantic import BaseModel

# Models, those of FastAPI for its document too, build their validators at their first use: building all of
# them takes a tenth of a second of each start.
BaseModel.model_config["defer_build"] = True
