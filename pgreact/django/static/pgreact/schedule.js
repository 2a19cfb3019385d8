// The form of a schedule: shows the fields of the chosen way to recur, and the next runs while it is edited.
"use strict";
(() => {
  const WAYS = ["every", "cron", "at", "solar", "rrule"];
  const ONLY = { cron_and: ["cron"], anchor: ["every", "rrule"] }; // fields that other ways ignore
  const PAUSE = 300; // milliseconds without an edit

  const form = document.getElementById("schedule_form");
  const shown = document.getElementById("pgreact-runs");
  if (!form || !shown || !form.elements["way"]) {
    return;
  }

  function row(name) {
    return form.querySelector(`.form-row.field-${name}`);
  }

  function choose() {
    const chosen = form.elements["way"].value;
    for (const way of WAYS) {
      row(way).classList.toggle("hidden", way !== chosen);
      form.elements[way].disabled = way !== chosen; // a browser sends no disabled field
    }
    for (const [name, ways] of Object.entries(ONLY)) {
      row(name).classList.toggle("hidden", !ways.includes(chosen));
    }
  }

  let timer = 0;
  let asked = 0;

  async function preview() {
    const number = ++asked;
    const data = new FormData(form);
    data.set("schedule_id", shown.dataset.schedule);
    const answer = await fetch(shown.dataset.url, { method: "POST", body: data, credentials: "same-origin" });
    if (answer.ok && number === asked) {
      // made by the server's template, which escapes what users typed
      shown.querySelector(".pgreact-runs").innerHTML = await answer.text();
    }
  }

  function edited() {
    choose();
    clearTimeout(timer);
    timer = setTimeout(preview, PAUSE);
  }

  form.addEventListener("input", edited);
  choose();
  if (shown.dataset.schedule || form.elements["task"].value) {
    preview();
  }
})();
