"""The command line `penstock`: runs, shows and explains; decides nothing itself.

`commands` declares the commands and imports what one needs when it runs, so that `--help` is fast.
"""
