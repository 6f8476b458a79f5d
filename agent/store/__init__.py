"""The device's store: one SQLite file that keeps lanes of signed records and compressed blocks of samples."""

from agent.store.database import StoreSettings
from agent.store.reading import Stored, Utc
from agent.store.retention import PruneReport
from agent.store.store import Store
from agent.store.verification import Fault, VerifyReport

__all__ = ["Fault", "PruneReport", "Store", "StoreSettings", "Stored", "Utc", "VerifyReport"]
