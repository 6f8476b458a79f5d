"""Who may use the receiver: people, their sessions, the rights of their roles, tokens for programs."""
