"""What measures: the load client, arrivals, who used the CPUs, statistics, the judge and the self-test.

It needs no laboratory, so it is in the image, where an update is measured on the machine that it was installed on.
"""
