"""The laboratory: antagonists, victims, the blocks of an experiment, and the records of what came out."""
