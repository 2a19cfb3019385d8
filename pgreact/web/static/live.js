"use strict";
// Updates a page when the database changes: the server's event makes htmx fetch the page again, and Idiomorph changes what differs.
(() => {
  const RETRY = 5000; // ms until the next try after the server refused the stream
  const body = document.body;
  const state = document.getElementById("connection");
  let source = null;

  const edited = (form) => [...form.elements].some((field) =>
    field === document.activeElement
    || ("checked" in field && field.checked !== field.defaultChecked)
    || (field.options ? [...field.options].some((option) => option.selected !== option.defaultSelected)
      : "defaultValue" in field && field.type !== "hidden" && field.value !== field.defaultValue));

  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap: (style, target, fragment) => {
      if (style !== "morph") return false;
      Idiomorph.morph(target, [...fragment.childNodes], {
        morphStyle: "innerHTML",
        callbacks: {
          // what the user has opened or begun to fill in stays as it is
          beforeNodeMorphed: (node) => !(node.tagName === "FORM" && edited(node)),
          beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
        },
      });
      return [target];
    },
  });

  const say = (text) => { state.textContent = text; state.classList.toggle("on", text === "live"); };

  const close = () => {
    if (source) source.close();
    source = null;
  };

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(body.dataset.live);
    source.onopen = () => say("live"); // the server knows whether the page missed a change
    source.onmessage = () => htmx.trigger(body, "live");
    source.onerror = () => {
      say("offline");
      if (source.readyState === EventSource.CLOSED) {
        close();
        setTimeout(open, RETRY);
      }
    };
  };

  if (body.dataset.live) {
    // a browser opens few connections to one host: hidden pages leave theirs
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    addEventListener("pagehide", close);
    addEventListener("pageshow", open);
    open();
  }
})();
