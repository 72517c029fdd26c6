"""The command line: `keras-debias`, or `python -m keras_debias`.

One file a command. What is imported at the top of these files is the standard
library alone, so that help and wrong usage need not wait for Keras.
"""
