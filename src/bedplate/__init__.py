"""Bedplate: an open Linux distribution built for one job, AI inference, and the toolkit that builds, boots and proves it."""

__version__ = "0.1.0"
