"""Kept results: the score of a car and month under a version of a model, and the quotes given, each as it was told.

Pages, API and commands call these; nothing here reads the clock or writes the log of who looked.

- `scores`: `score_device(connection, device, period, model, now_ns)`, `latest(connection, device, model=None)`,
  `history(connection, device, n, model=None)`, `result(connection, kept)`, `revisions(connection, device, period)`
- `batch`: `score_all(engine, period, model, now_ns, again=False, workers=1)`
- `portfolio`: `distribution(connection, model, period)`, `compare(connection, model_a, model_b, period)`,
  `backtest(engine, model_a, model_b, period, now_ns)`
- `quotes`: `quote(connection, asked, book, now_ns, by)`, `quote_of(connection, id)`, `quotes(connection, …, page=1)`
- `periods`: `bounds(period, zone)`, `last_ended(now_ns, zone)`; a period is a month such as "2026-10"
"""
