"""Other systems are told what happened: signed posts out of an outbox, at least once, none lost and none for ever."""
