"""The timetable: schedules as rows, and the engine that fires their occurrences."""
