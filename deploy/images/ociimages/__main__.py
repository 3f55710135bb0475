"""`deploy/images/build [FOLDER]`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ociimages.archive import write_archive
from ociimages.closure import MissingLibraryError
from ociimages.recipes import RecipeError, Recipes, forget

_KEPT_SECONDS = 7 * 24 * 3600.0


def main() -> int:
    """Make both images; return the exit status."""
    cache = Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock")
    own = cache / "images"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else own
    out.mkdir(parents=True, exist_ok=True)
    recipes = Recipes(own)
    try:
        for image in (recipes.penstock(), recipes.envoy()):
            archive = out / f"{image.name.rpartition('/')[2].partition(':')[0]}.tar"
            write_archive(image, archive)
            sys.stdout.write(f"{image.name}\t{archive}\n")
        forget(own, older_than=time.time() - _KEPT_SECONDS)
    except (RecipeError, MissingLibraryError) as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
