"""The pages of schedules, jobs, dead jobs, lanes and the history in Django's admin."""

from django.contrib import admin

from pgreact.django import models
from pgreact.django.admin.history import SettledJobAdmin
from pgreact.django.admin.jobs import DeadJobAdmin, InProgressAdmin, JobAdmin
from pgreact.django.admin.lanes import LaneAdmin
from pgreact.django.admin.schedules import ScheduleAdmin

admin.site.register(models.Schedule, ScheduleAdmin)
admin.site.register(models.Job, JobAdmin)
admin.site.register(models.InProgress, InProgressAdmin)
admin.site.register(models.DeadJob, DeadJobAdmin)
admin.site.register(models.Lane, LaneAdmin)
admin.site.register(models.SettledJob, SettledJobAdmin)
