"""Delta xDS without IO: resources, snapshots and the state machine of one client's stream.

`resource` makes a Resource with its bytes framed once, `snapshot` holds what a node should have,
`delta` decides what one client gets next. Time is an argument; sockets are in `penstock.ads`.
"""
