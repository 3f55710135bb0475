"""Objects from a Kubernetes API server and their changes, without a client library.

`messages` reads what the server says, `table` keeps the objects of one kind, `reflector` decides
what to ask next (these three do no IO), `connection` speaks HTTP, `source` merges all kinds.
"""
