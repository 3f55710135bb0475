"""`penstock check`: what is looked at, what was found, and what to do about it.

`observed` asks an API server, `machine` this machine; the other modules judge what they found and
do no IO.
"""
