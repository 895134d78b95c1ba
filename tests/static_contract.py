"""Not run: mypy reads here that both backends satisfy the Protocol, op by op."""

import reference
from fastcnn.backend import Backend
from fastcnn.fast import FastBackend

fast: Backend = FastBackend()
oracle: Backend = reference
