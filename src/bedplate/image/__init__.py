"""Recipes, and the path recipe -> mkosi -> artefacts -> manifest -> boot in QEMU."""
