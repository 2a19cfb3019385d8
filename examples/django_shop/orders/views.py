"""The shop's page, its search, and orders by an API."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from orders.forms import OrderForm
from orders.models import Order, SearchEntry


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Show the last orders, and a form for the next one."""
    form = OrderForm(request.POST or None)
    if form.is_valid():
        form.place()
        return redirect("index")
    return render(request, "orders/index.html", {"form": form, "orders": Order.objects.order_by("-pk")[:20]})


@csrf_exempt  # callers have no session
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Place an order."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    order, job = form.place()
    return JsonResponse({"order": order.pk, "job": job, "task": job.task_id}, status=201)


@require_GET
def search(request: HttpRequest) -> JsonResponse:
    """Find products by a word."""
    found = SearchEntry.objects.filter(words__contains=request.GET.get("q", "").lower())
    return JsonResponse({"products": [*found.values_list("product__name", flat=True).order_by("product")]})
