"""Shadow mode: compare what a live Beat sends with what the timetable would fire."""
