"""Antagonists as they are in Debian, run for real, two seconds each and small."""
