"""Decisions: no I/O, no clock, nothing beyond the standard library. Imported by driver, worker and scorer."""
