"""Incremental computation: typed inputs, memoised pure functions, work in proportion to the change.

The engine is of the demand-driven "red-green" kind (Salsa, Adapton). It knows three kinds of node:

* a *cell* is one key of an input collection, or one bucket of an index over it;
* a *query* is a pure function of a database and a key; each (query, key) is memoised together with
  the nodes that it read;
* a *goal* is a query whose value somebody outside wants to be told about.

A change of a cell marks everything that read it, directly or not, as suspect and stops there. A
suspect value is looked at again only when it is asked for: its reads are verified first, and only
if one of them has really changed is the function run. If it returns an equal value, those who read
it are not run at all (early cut-off). A value that nobody reads and that is no goal is forgotten.

Two rules follow for whoever writes a query: read through the database only, and return values that
compare by content. Then the result after any sequence of edits equals the result from scratch.
"""
