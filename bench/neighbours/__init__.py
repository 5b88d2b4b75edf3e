"""What an engine keeps beside neighbours: stock Debian, what a user would pick instead, and bedplate, in one table.

`python -m bench.neighbours` measures in an ordinary Debian 13 guest and on this host, and publishes into bench/README.md.
rows.py says what is measured, arms.py and site.py how an arm is made real in the guest and on a host with cgroup v1,
inside.py is the program that runs there, table.py makes the page.
"""
