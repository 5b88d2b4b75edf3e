"""What other programs wrote of a machine, and people paste: one parser a format, and `foreign`, which tells them apart."""
