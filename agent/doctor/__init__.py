"""The doctor: what is wrong with a box in a car, and what to do next, in plain words."""

from agent.doctor.advice import Advice, next_step, table
from agent.doctor.context import Context
from agent.doctor.examine import examine
from agent.doctor.finding import Finding, State, worst

__all__ = ["Advice", "Context", "Finding", "State", "examine", "next_step", "table", "worst"]
