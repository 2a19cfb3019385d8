"""A look at another scheduler's sends, beside what the timetable would do."""
