"""`python -m fastcnn`: the command line."""

from __future__ import annotations

import sys

from fastcnn.cli import main

sys.exit(main())
