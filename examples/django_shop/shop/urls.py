"""The site's addresses."""

from django.contrib import admin
from django.urls import path
from orders import views

urlpatterns = [
    path("", views.index, name="index"),
    path("orders/", views.place, name="place"),
    path("search/", views.search, name="search"),
    path("admin/", admin.site.urls),
]
