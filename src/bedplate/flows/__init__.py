"""What bedplate does for a user, a module for each use case: values and a Progress in, values out.

Nothing here parses arguments, prints, exits or asks: the command line does, and whatever else drives bedplate.
"""
