"""Rules of a machine that are written as functions, one module for each subject."""
