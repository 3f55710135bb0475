"""Writing statuses into objects that others write, too: what, when, and whether we may.

`merge` says what a status becomes, `plan` which object is next, `lease` who writes. All of it is
pure: times come as arguments, requests and answers go through whoever does the IO.
"""
