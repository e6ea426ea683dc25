"""``python -m igfiqa_head.cli``: the command ``igfiqa``."""

import sys

from igfiqa_head.cli import main

sys.exit(main())
