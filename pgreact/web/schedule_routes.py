"""The routes that add, edit and delete schedules, and act on all that a search matches."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.event_log import log
from pgreact.timetable import edit, views
from pgreact.timetable import form as schedule_form
from pgreact.timetable.columns import CHOICES, FLAGS, VALUES, Mistakes
from pgreact.timetable.settings import WAYS
from pgreact.web.page import Page
from pgreact.web.pages.schedules import SCHEDULES, chosen
from pgreact.web.responses import Pages
from pgreact.web.user import user_of

BATCH = 500  # schedules of a transaction
MOST = 10_000  # schedules of an action
_STILL = Page(SCHEDULES.name, SCHEDULES.title, {}, live=False)


class _Bulk(NamedTuple):
    verb: str
    event: str
    effect: str


_BULK = {
    "enable": _Bulk(
        "Enable",
        "schedules.enabled",
        "They run again from their next occurrence on; those that failed are tried again.",
    ),
    "disable": _Bulk(
        "Disable",
        "schedules.disabled",
        "They do not run until they are enabled. Jobs that are already enqueued stay.",
    ),
    "run": _Bulk(
        "Run",
        "schedules.run_requested",
        "Those that are enabled run once, now. Their next occurrences stay as planned.",
    ),
}


def schedule_routes(pages: Pages) -> list[Route]:
    """Return the routes."""
    return [
        Route("/schedules/bulk/{action}", _Forms(pages).bulk, methods=["GET", "POST"]),
        Route("/schedule/new", _Forms(pages).new, methods=["GET", "POST"]),
        Route("/schedule/edit", _Forms(pages).edit, methods=["GET", "POST"]),
        Route("/schedule/delete", _Forms(pages).delete, methods=["GET", "POST"]),
    ]


class _Forms:
    """The endpoints: each shows its form, and does what the form says."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def new(self, request: Request) -> Response:
        form = await self._form(request)
        name = str((form or {}).get("name", "")).replace("\0", "")

        def respond() -> Response:
            given = schedule_form.defaults() | (schedule_form.fields(form) if form else {})
            if form is None:
                return self._edited(request, None, given, {}, name)
            try:
                if not name:
                    raise Mistakes({"name": "a schedule needs a name"})
                with self._pages.database.acting(user_of(request).name) as connection:
                    schedule_form.add(connection, name, given)
                    log(connection, "schedule.created", name)
            except Mistakes as error:
                return self._edited(request, None, given, error.columns, name)
            return self._pages.leave(request, _path(name), f"added {name}")

        return await self._pages.answer(request, _STILL, respond)

    async def edit(self, request: Request) -> Response:
        form = await self._form(request)
        name = _name(form if form is not None else request.query_params)

        def respond() -> Response:
            given: dict[str, str] = {}
            try:
                with self._pages.database.acting(user_of(request).name) as connection:
                    row = views.named(connection, [name])[name]
                    hidden = self._pages.redaction.hides(row["task"])
                    given = schedule_form.texts(row, hidden=hidden)
                    if form is None:
                        return self._edited(request, row, given, {}, name)
                    given |= schedule_form.fields(form)
                    if hidden:
                        given = {
                            key: text for key, text in given.items() if key not in schedule_form.HIDEABLE
                        }
                        if given["task"] != row["task"]:
                            raise Mistakes({"task": "its arguments are hidden, and stay with this task"})
                    changed = schedule_form.change(connection, row, given)
                    if changed:
                        log(connection, "schedule.changed", name, columns=changed)
            except Mistakes as error:
                return self._edited(request, row, given, error.columns, name)
            note = f"changed {', '.join(changed)} of {name}" if changed else "nothing changed"
            return self._pages.leave(request, _path(name), note)

        return await self._pages.answer(request, _STILL, respond)

    async def delete(self, request: Request) -> Response:
        form = await self._form(request)
        name = _name(form if form is not None else request.query_params)

        def respond() -> Response:
            with self._pages.database.acting(user_of(request).name) as connection:
                row = views.named(connection, [name])[name]
                if form is None:
                    return self._pages.show(
                        request, _STILL, "schedule_delete", {"row": row, "title": f"Delete {name}"}
                    )
                edit.remove(connection, [name])
                log(connection, "schedule.deleted", name, task=row["task"])
            return self._pages.leave(
                request, "/schedules", f"deleted {name}; jobs that are already enqueued stay"
            )

        return await self._pages.answer(request, _STILL, respond)

    async def bulk(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in _BULK:
            raise HTTPException(404, f"no such action; there are: {', '.join(_BULK)}")
        form = await self._form(request)

        def respond() -> Response:
            if form is not None:
                done = self._run(request, action, form)
                note = f"{_BULK[action].verb.lower()}: {done} schedules"
                return self._pages.leave(request, "/schedules", note)
            with self._pages.database.reading() as connection:
                found = _matching(connection, request.query_params, None, MOST + 1)
                [[newest]] = connection.execute(
                    "select coalesce(max(s.id), 0) from pgreact.schedule s"
                ).fetchall()
            text = {
                name: request.query_params[name]
                for name in ("name", "which")
                if request.query_params.get(name)
            }
            context = {
                "action": action,
                "bulk": _BULK[action],
                "found": _concerned(action, found[:MOST]),
                "more": len(found) > MOST,
            }
            return self._pages.show(
                request,
                _STILL,
                "schedules_bulk",
                {
                    **context,
                    "text": {**text, "up_to": newest},
                    "again": urlencode(text),
                    "title": _BULK[action].verb,
                },
            )

        return await self._pages.answer(request, _STILL, respond)

    def _run(self, request: Request, action: str, form: Mapping[str, Any]) -> int:
        """Act in batches; return how many schedules were concerned."""
        texts = {name: str(form[name]) for name in ("name", "which", "up_to", "count") if form.get(name)}
        up_to = texts.get("up_to", "")
        if not up_to.isdigit() or len(up_to) > 18:
            raise PgreactError("the form has no end of the ids: search again, and confirm what is shown")
        done, after = 0, None
        while done < MOST:
            with self._pages.database.acting(user_of(request).name) as connection:
                if after is None:
                    described = ", ".join(
                        f"{name} {texts[name]}" for name in ("name", "which") if name in texts
                    )
                    log(connection, _BULK[action].event, described or "all", schedules=texts.get("count"))
                found = _matching(connection, texts, after, BATCH)
                names = [row["name"] for row in _concerned(action, found) if row["id"] <= int(up_to)]
                if action == "run":
                    edit.run(connection, names)
                else:
                    edit.enable(connection, names, enabled=action == "enable")
            done += len(names)
            if len(found) < BATCH:
                break
            after = found[-1]["name"]
        return done

    async def _form(self, request: Request) -> Mapping[str, Any] | None:
        """Return the form of a POST; of a GET none, but only operators see the pages that act."""
        if request.method == "POST":
            return await self._pages.form(request)
        if not user_of(request).acts:
            raise HTTPException(403, f"{user_of(request).name} has the role monitor, which changes nothing")
        return None

    def _edited(
        self,
        request: Request,
        row: Mapping[str, Any] | None,
        given: Mapping[str, str],
        errors: Mapping[str, str],
        name: str,
    ) -> Response:
        with self._pages.database.reading() as connection:
            lanes = [
                lane["name"]
                for lane in rows(connection, "select name from pgreact.lane order by name limit 200")
            ]
        context = {
            "row": row,
            "name": name,
            "given": given,
            "errors": errors,
            "lanes": lanes,
            "values": {key: about for key, about in VALUES.items() if key in given},
            "choices": CHOICES,
            "flags": {key: about for key, about in FLAGS.items() if key in given},
            "ways": WAYS,
        }
        title = f"Edit {name}" if row else "New schedule"
        status = 422 if errors else 200
        return self._pages.show(request, _STILL, "schedule_edit", {**context, "title": title}, status)


def _matching(
    connection: Connection, texts: Mapping[str, str], after: str | None, limit: int
) -> list[dict[str, Any]]:
    pattern, which = chosen(texts)
    return views.schedules(connection, pattern, limit, which=which, after=after)


def _concerned(action: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the schedules that an action concerns: those that are disabled do not run."""
    return [row for row in found if row["enabled"]] if action == "run" else found


def _name(form: Mapping[str, Any]) -> str:
    return str(form.get("name", "")).replace("\0", "")


def _path(name: str) -> str:
    return f"/schedule?{urlencode({'name': name})}"
