"""`python -m mmcontrast`, the form the workflow's jobs use."""

import sys

from mmcontrast.cli import main

sys.exit(main())
