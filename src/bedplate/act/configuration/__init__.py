"""A machine's configuration as a transaction: all of its files are in force, or those of the one before.

To understand it read place.py, records.py and transaction.py, in this order.
"""
