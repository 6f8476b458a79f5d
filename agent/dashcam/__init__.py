"""The dashcam: a process of its own that turns cameras into short video segments on disk; the agent only reads them."""
