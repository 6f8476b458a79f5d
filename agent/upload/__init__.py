"""The sending of package files: what to send next, how much at once, and how much a day.

`uploads.Uploads` is driven by agent.sync between the lanes' batches and never waits or connects by itself.
"""
