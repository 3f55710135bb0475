"""The compiler: objects in, resources and conditions out; pure, and incremental by construction.

Every resource is a query of its own over the collections of a `Database`; a few root queries, one
for each object, say which resources there are. `Compiler` feeds events in and hands out what
changed. A new kind of resource is a new query plus its mention in a root.
"""
