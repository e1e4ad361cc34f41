"""The part that runs on the host, sent there as one file: standard library only, nothing of sem.

Both ends use `parcel`; the rest is called through `agent` here and `verbs` there.
"""
