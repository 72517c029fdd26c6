"""`python -m keras_debias`: the command line."""

import sys

from keras_debias.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
