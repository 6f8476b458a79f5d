"""The insurer's systems and owners' programs: JSON under /api/v1, described by its own OpenAPI document.

Thin: every handler checks what was asked, calls a function that pages and commands use too, and writes the answer.
"""
