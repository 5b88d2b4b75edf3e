"""The one downloader: resumed, ranged, parallel within a bound, its digest computed while it streams. fetch.py is the door.

A partial file is always a prefix of the whole one: pieces are received in parallel and written in order. So its length says
how far it came, and a kill at any instant leaves something that the next run goes on from.
"""
