"""`penstock sysdump`: what others need to understand an installation, and no secret of it.

`redact` takes out what may be one; everything that goes into an archive goes through it.
"""
