"""A day of tasks on one box, in virtual time: what a way of choosing costs before anybody waits for it.

Pure: a trace, a fleet and settings in, figures out. No clock, no I/O, and every draw from one seeded source.
"""
