"""``python -m taskqueue_server`` is ``taskqueue-server``."""

from __future__ import annotations

from taskqueue_server.cli import main

if __name__ == "__main__":
    main()
