"""Rules of a machine that are rows of the catalog: how a row is judged, and the facts that rows read."""
