"""The reference backend of a clone: the folder reference/ beside the package, under its own name.

Nothing but a pointer, so that `fastcnn.reference` is found in a clone as it is in an installed
package, which holds reference/ itself in this place (setup.py).
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference import *  # noqa: F403 - how a type checker finds it: a clone is on its path
else:
    _folder = Path(__file__).parents[2] / "reference"
    _spec = spec_from_file_location(
        __name__, _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    # The import that is under way returns what stands here when this file ends.
    sys.modules[__name__] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
