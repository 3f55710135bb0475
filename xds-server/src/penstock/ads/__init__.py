"""Delta ADS over gRPC: the server that every hop runs, and the agent's client of the controller.

All decisions are those of `penstock.xds`; here are the sockets, the clock and the tasks.

Two hops: the controller serves agents, an agent serves its Envoy. On both, an ACK means "taken and
kept": the agent's to the controller that the resource is in its store. What Envoy said of it goes
back by NodeService.Report (`reports`), a stream of its own beside the ADS stream: the first report
tells everything, each later one what changed. So the controller knows both that a node has a
resource and that its Envoy runs it, or why not.

On one machine both hops are unix sockets. Between machines it is mutual TLS: `join` gets a node its
certificate, `dial` chooses the controller, `peers` says for which node a stream may speak.
"""
