"""Which releases make one stack, from wish, hardware and the rows of the catalogue; and if none do, why. Pure.

problem.py has the values: keys, candidates as bits of a mask, constraints between two keys. build.py makes them of rows.
memory.py says which engines cannot hold a model of the wish. solver.py asks resolvelib for a yes or a no; core.py finds the
smallest set of premises that is impossible; choose.py takes the first possible stack in the order of preference; explain.py
says it in sentences; resolve.py is the way in.
"""
