"""Django's admin with pgreact's schema in another database than the users."""

from pgreact.demo.postgres import EmbeddedPostgres
from tests.django_admin import act, client, site, told

LISTS = ("schedule", "job", "inprogress", "deadjob", "lane", "settledjob")


def test_the_schema_may_be_in_another_database_than_the_users(
    postgres: EmbeddedPostgres, migrated: str
) -> None:
    with site(postgres, migrated, "jobs") as queue:
        ann = client()
        broken, job = queue.add(), queue.add()
        queue.claim(1)
        queue.start(broken)
        queue.settle(broken, "failed", "E")
        for table in LISTS:
            assert ann.get(f"/admin/pgreact/{table}/").status_code == 200, table
        form = ann.get("/admin/pgreact/schedule/add/").context["adminform"].form
        data = {name: "on" if value is True else value for name, value in form.initial.items() if value}
        data |= {"name": "tick", "task": "t", "way": "every", "every": "1h"}
        assert ann.post("/admin/pgreact/schedule/add/", data).status_code == 302
        schedule = queue.value("select id from pgreact.schedule where name = 'tick'")
        assert (
            ann.post(f"/admin/pgreact/schedule/{schedule}/change/", {**data, "every": "2h"}).status_code
            == 302
        )
        assert queue.value("select every = '2 h' from pgreact.schedule")
        deleted = told(act(ann, "schedule", "delete_selected", [schedule], post="yes"))
        assert deleted[-1] == "Successfully deleted 1 schedule."
        assert told(act(ann, "deadjob", "retry_jobs", [broken])) == ["1 job queued again."]
        assert told(act(ann, "job", "cancel_jobs", [job, broken])) == ["2 jobs cancelled."]
        assert told(act(ann, "lane", "pause_lanes", ["default"])) == ["Paused 1 lane."]
        lane = {"name": "bulk", "burst": "1", "weight": "5", "max_unstarted": "200", "max_lost": "3"}
        assert ann.post("/admin/pgreact/lane/add/", lane).status_code == 302
        assert ann.post("/admin/pgreact/lane/bulk/change/", {**lane, "rate": "5/s"}).status_code == 302
        assert ann.post("/admin/pgreact/lane/bulk/delete/", {"post": "yes"}).status_code == 302
        assert queue.value("select array_agg(name) from pgreact.lane") == ["default"]
