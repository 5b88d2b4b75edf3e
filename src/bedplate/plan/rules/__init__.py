"""Rules: what should hold of a machine, and what is concluded where it does not. Pure.

rule.py is the engine; it knows no rule. A family of rules is a file: functions (checks/), rows of the catalog (rows/), what
a build host needs (needs.py). They share conditions.py, formulas.py, terms.py and files.py.
"""
