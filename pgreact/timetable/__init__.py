"""The timetable: schedules as rows, whose occurrences become jobs."""
