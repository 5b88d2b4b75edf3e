"""Frozen values that every room shares. No behaviour beyond what a value can say of itself."""
