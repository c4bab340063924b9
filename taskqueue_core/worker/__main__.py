"""``python -m taskqueue_core.worker``: one worker process, set up by its environment alone."""

from __future__ import annotations

import sys

from taskqueue_core.worker.process import main

if __name__ == "__main__":
    sys.exit(main())
