"""How elmo-deploy is installed again, for the hints of everything that is compiled with it."""

from __future__ import annotations

# Without the first two options pip takes the wheel that it built and cached before.
INSTALL_AGAIN = "pip install --no-cache-dir --force-reinstall --no-deps elmo-deploy"
